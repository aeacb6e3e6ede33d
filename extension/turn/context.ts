/**
 * Writes Pi's context as JSON for the addon.
 *
 * A tool's parameters may not fit into JSON, for example an object that contains itself. Such parameters are replaced by a
 * sentence about them, and the addon reports the tool, so that the turn goes on.
 */
import { kimiError } from "../errors.ts";

interface Tool {
  name?: unknown;
  parameters?: unknown;
}

/** Writes a context. Throws an error that names the position of a message that does not fit into JSON. */
export function contextText(context: object): string {
  try {
    return JSON.stringify(context);
  } catch {
    const { tools, messages } = context as { tools?: Tool[]; messages: { toolsAdded?: Tool[] }[] };
    const readable = {
      ...context,
      ...(tools === undefined ? {} : { tools: tools.map(serializable) }),
      messages: messages.map((message) =>
        Array.isArray(message?.toolsAdded) ? { ...message, toolsAdded: message.toolsAdded.map(serializable) } : message,
      ),
    };
    for (const [position, message] of readable.messages.entries()) {
      const problem = problemOf(message);
      if (problem !== undefined) {
        const message = `message ${position} of the conversation cannot be sent: ${problem}`;
        throw kimiError({ code: "bad_request", message });
      }
    }
    return JSON.stringify(readable);
  }
}

function serializable(tool: Tool): Tool {
  const problem = problemOf(tool.parameters);
  return problem === undefined ? tool : { ...tool, parameters: `something that JSON cannot hold: ${problem}` };
}

function problemOf(value: unknown): string | undefined {
  try {
    JSON.stringify(value);
    return undefined;
  } catch (error) {
    return (error instanceof Error ? error.message : String(error)).split("\n")[0];
  }
}
