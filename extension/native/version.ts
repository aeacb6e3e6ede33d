/** Version of this package. It is compiled in, because a bundled program has another package.json around it; a test compares the two. */
export const VERSION = "0.1.0";
