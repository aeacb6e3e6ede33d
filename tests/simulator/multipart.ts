// Reads multipart/form-data strictly: what a server would refuse or misread must not pass a test (RFC 7578).

export interface FormPart {
  name: string;
  filename: string | undefined;
  contentType: string | undefined;
  bytes: Buffer;
}

/** The parts in order, or what is wrong with the body. */
export function readMultipart(contentType: string, body: Buffer): { parts: FormPart[] } | { problem: string } {
  const boundary = /^multipart\/form-data;.*\bboundary=(?:"([^"]+)"|([^\s;]+))/i.exec(contentType);
  const mark = boundary?.[1] ?? boundary?.[2];
  if (mark === undefined) return { problem: "no multipart boundary" };
  const delimiter = Buffer.from(`--${mark}`);
  if (!body.subarray(0, delimiter.length).equals(delimiter))
    return { problem: "the body does not begin with its boundary" };
  const parts: FormPart[] = [];
  let at = delimiter.length;
  for (;;) {
    const next = body.subarray(at, at + 2).toString("latin1");
    if (next === "--") return { parts };
    if (next !== "\r\n") return { problem: "a boundary is not followed by a line break" };
    const headEnd = body.indexOf("\r\n\r\n", at);
    if (headEnd < 0) return { problem: "the head of a part has no end" };
    const end = body.indexOf(Buffer.concat([Buffer.from("\r\n"), delimiter]), headEnd + 2);
    if (end < 0) return { problem: "a part has no end" };
    const part = readPart(
      body.subarray(at + 2, headEnd).toString("utf8"),
      body.subarray(headEnd + 4, Math.max(end, headEnd + 4)),
    );
    if (part === undefined) return { problem: "a part has no name" };
    parts.push(part);
    at = end + 2 + delimiter.length;
  }
}

function readPart(head: string, bytes: Buffer): FormPart | undefined {
  const headers = new Map(
    head.split("\r\n").map((line) => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim()] as const;
    }),
  );
  const disposition = headers.get("content-disposition") ?? "";
  const name = /;\s*name="([^"]*)"/.exec(disposition)?.[1];
  if (name === undefined) return undefined;
  const filename = /;\s*filename="([^"]*)"/.exec(disposition)?.[1];
  return { name, filename, contentType: headers.get("content-type"), bytes };
}
