/** What is loaded by its first use. */
export interface Lazy<Loaded> {
  /** Loads it, once for all who ask; after a load that failed the next who asks has it tried again. */
  (): Promise<Loaded>;
  /** What is loaded, or is being loaded; undefined before anyone has asked. */
  begun(): Promise<Loaded> | undefined;
}

export function lazily<Loaded>(load: () => Promise<Loaded>): Lazy<Loaded> {
  let loading: Promise<Loaded> | undefined;
  const open = () => {
    loading ??= load().catch((error) => {
      loading = undefined;
      throw error;
    });
    return loading;
  };
  return Object.assign(open, { begun: () => loading });
}

type Verb = (...args: never[]) => Promise<unknown>;

/** The members of a part that can not be had late, since they answer at once. */
type AtOnce<Part> = { readonly [Name in keyof Part as Part[Name] extends Verb ? never : Name]: Part[Name] };

/**
 * A part whose verbs load it: who uses it sees the part itself, and is not to spread it. The first call of a verb waits for the code.
 *
 * @param rest what answers at once, and whatever else is to be done without loading anything.
 */
export function opensLazily<Part extends object>(part: Lazy<Part>, rest: AtOnce<Part> & Partial<Part>): Part {
  return new Proxy({ ...rest } as Part, {
    get(known, name: string & keyof Part) {
      // Whoever awaits it asks for `then`, and is to be given the part, not to load it.
      if (name in known || name === 'then' || typeof name === 'symbol') return known[name];
      const verb = async (...args: never[]) => ((await part())[name] as Verb)(...args);
      known[name] = verb as Part[typeof name];
      return known[name];
    },
  });
}
