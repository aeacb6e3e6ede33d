/**
 * Names the provider and its API.
 */

/** Id of the provider in Pi, the same as that of Pi's built-in one, which it replaces. */
export const PROVIDER_ID = "kimi-coding";

/** Our own API id. Pi uses an extension for models of its API id only, whichever provider they belong to. */
export const API_ID = "kimi-code-native";
