// How to stop a request, and how to handle errors by class or by `code`.
import { Kimi, KimiAbortError, KimiAuthError, KimiError, KimiLimitError } from "pi-provider-kimi-code";

const kimi = new Kimi();

try {
  await kimi.chat("Count to a million.", { signal: AbortSignal.timeout(50) }).final();
} catch (error) {
  if (error instanceof KimiAbortError) console.log("stopped, because", error.cause.name);
  else throw error;
}

try {
  await new Kimi({ apiKey: "sk-not-a-key" }).chat("Hello?").final();
} catch (error) {
  if (error instanceof KimiAuthError) console.log(`${error.code}: sign in again`);
  else if (error instanceof KimiLimitError) {
    // A quota says when it opens again, a rate limit for how long to wait; either may be unknown.
    const until = error.resetsAt ?? Date.now() + (error.retryAfterMs ?? 60_000);
    console.log(`${error.code}: try again at ${new Date(until).toISOString()}`);
  } else if (error instanceof KimiError) console.log(`${error.code}: ${error.message}`, error.partial?.content);
  else throw error;
}
