/**
 * Pi's context as the JSON text that the addon reads.
 *
 * A tool may bring parameters that JSON cannot hold: an object that contains itself, a number of arbitrary size. That must not
 * cost the turn, so such parameters travel as a sentence about them, and the addon reports the tool.
 */

interface Tool {
  name?: unknown;
  parameters?: unknown;
}

/** The JSON text of a context. Throws an error that names the message if a message cannot be written. */
export function contextText(context: object): string {
  try {
    return JSON.stringify(context);
  } catch {
    const { tools, messages } = context as { tools?: Tool[]; messages: { toolsAdded?: Tool[] }[] };
    const readable = {
      ...context,
      ...(tools === undefined ? {} : { tools: tools.map(writable) }),
      messages: messages.map((message) =>
        Array.isArray(message?.toolsAdded) ? { ...message, toolsAdded: message.toolsAdded.map(writable) } : message,
      ),
    };
    for (const [position, message] of readable.messages.entries()) {
      const problem = problemOf(message);
      if (problem !== undefined) throw new Error(`message ${position} of the conversation cannot be sent: ${problem}`);
    }
    return JSON.stringify(readable);
  }
}

function writable(tool: Tool): Tool {
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
