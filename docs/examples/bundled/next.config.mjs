// Next.js: keep the package out of the server bundle, so that it is loaded from node_modules.
export default {
  serverExternalPackages: ["pi-provider-kimi-code"],
};
