/**
 * A schema that is made when it is first asked for, and once. Most routes are not called in the life of an instance, and what
 * they answer is described for the documents alone; to make all of it took longer than to load everything else.
 */
export function later<Made extends object>(make: () => Made): () => Made {
  let made: Made | undefined;
  return () => {
    made ??= make();
    return made;
  };
}
