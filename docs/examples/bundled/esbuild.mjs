// esbuild: `node esbuild.mjs`. For CommonJS use format "cjs"; nothing has to be external.
import { build } from "esbuild";

await build({
  entryPoints: ["program.mjs"],
  outfile: "dist/esbuild.mjs",
  bundle: true,
  platform: "node",
  format: "esm",
});
