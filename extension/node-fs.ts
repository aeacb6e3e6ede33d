/**
 * Node's `fs` for what every program loads that imports the client.
 *
 * An `import` of it evaluates all its parts, streams, promises and readline among them. That takes three milliseconds, half of the
 * import of the client, and `require` does not do it.
 */
import * as nodeModule from "node:module";

/** Read at run time, because webpack replaces a plain `createRequire` by one that only knows its own modules. */
export const createRequire = Reflect.get(nodeModule, "createRequire") as typeof nodeModule.createRequire;

/** Node before 20.16 has no `getBuiltinModule`. */
export const fs =
  process.getBuiltinModule?.("node:fs") ?? (createRequire(process.execPath)("node:fs") as typeof import("node:fs"));
