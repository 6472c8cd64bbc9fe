import type { Eager } from '../bundle.ts';

/** A resource as SST's components ask for it. */
export interface Resource {
  /** Such as `aws:lambda/function:Function`. */
  readonly type: string;
  readonly name: string;
  /** Its arguments, secrets as their values. */
  readonly inputs: Inputs;
  /** Resources that are made before it, by name. */
  readonly after: readonly string[];
  /** Whether Pulumi refuses to delete it. */
  readonly isProtected: boolean;
  /** Whether it stays where it is when the stage is removed. */
  readonly isRetained: boolean;
}

// biome-ignore lint/suspicious/noExplicitAny: what a resource is given is as deep and as various as AWS is
export type Inputs = Readonly<Record<string, any>>;

/** A bundle of a function, and what lies beside it. */
export interface Packed extends Eager {
  readonly zipBytes: number;
  /** Paths in the archive. */
  readonly files: readonly string[];
}

/** A stage as it would be deployed. */
export interface Graph {
  readonly stage: string;
  /** What `app()` says of it. */
  readonly app: { readonly removal: string; readonly protect: boolean };
  readonly resources: readonly Resource[];
  /** Values that no environment may hold. */
  readonly secrets: readonly string[];
  /** Variables that the functions read. */
  readonly variablesRead: readonly string[];
  /** By the name of the function. */
  readonly bundles: Readonly<Record<string, Packed>>;
}
