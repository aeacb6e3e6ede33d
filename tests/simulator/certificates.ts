// A certificate authority for one run, and the server certificate it issues. Node makes keys and signatures but no
// certificates, so the few fields that TLS clients insist on are written here (https://www.rfc-editor.org/rfc/rfc5280#section-4.1).

import { generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto";

export interface Certificates {
  /** PEM of the authority, for clients that trust it. */
  authority: string;
  /** PEM of the server's certificate and its key. */
  certificate: string;
  key: string;
}

const SEQUENCE = 0x30;
const DAY_MS = 86_400_000;

/** Issues one certificate for all of `names`, by an authority that exists nowhere else. */
export function issueCertificates(names: readonly string[]): Certificates {
  const authority = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const server = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const issuer = "Kimi simulator";
  const isAuthority = extension([2, 5, 29, 19], tlv(SEQUENCE, tlv(0x01, Buffer.from([0xff]))));
  const alternatives = names.map((name) => tlv(0x82, Buffer.from(name)));
  const isServer = [
    extension([2, 5, 29, 17], tlv(SEQUENCE, ...alternatives)),
    extension([2, 5, 29, 37], tlv(SEQUENCE, oid([1, 3, 6, 1, 5, 5, 7, 3, 1]))),
  ];
  const ours = { issuer, signer: authority.privateKey };
  return {
    authority: certificate({ ...ours, subject: issuer, key: authority.publicKey, extensions: [isAuthority] }),
    certificate: certificate({ ...ours, subject: names[0] ?? "", key: server.publicKey, extensions: isServer }),
    key: server.privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
  };
}

interface Content {
  issuer: string;
  subject: string;
  key: KeyObject;
  signer: KeyObject;
  extensions: Buffer[];
}

function certificate({ issuer, subject, key, signer, extensions }: Content): string {
  const algorithm = tlv(SEQUENCE, oid([1, 2, 840, 10045, 4, 3, 2]));
  const version = tlv(0xa0, integer(Buffer.from([2])));
  const serial = integer(Buffer.concat([Buffer.from([1]), randomBytes(8)]));
  const validity = tlv(SEQUENCE, time(Date.now() - DAY_MS), time(Date.now() + DAY_MS));
  const content = tlv(
    SEQUENCE,
    ...[version, serial, algorithm, name(issuer), validity, name(subject)],
    key.export({ type: "spki", format: "der" }),
    tlv(0xa3, tlv(SEQUENCE, ...extensions)),
  );
  const signature = tlv(0x03, Buffer.from([0]), sign("sha256", content, signer));
  const base64 = tlv(SEQUENCE, content, algorithm, signature).toString("base64");
  return `-----BEGIN CERTIFICATE-----\n${base64.replace(/.{64}/g, "$&\n")}\n-----END CERTIFICATE-----\n`;
}

/** DER: a tag, the length of the content, the content. */
function tlv(tag: number, ...parts: Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  const size = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...size]), content]);
}

function integer(bytes: Buffer): Buffer {
  return tlv(0x02, bytes);
}

function oid([first = 0, second = 0, ...rest]: number[]): Buffer {
  const bytes = [first * 40 + second];
  for (const part of rest) {
    const groups = [part & 0x7f];
    for (let left = part >> 7; left > 0; left >>= 7) groups.unshift((left & 0x7f) | 0x80);
    bytes.push(...groups);
  }
  return tlv(0x06, Buffer.from(bytes));
}

function name(common: string): Buffer {
  return tlv(SEQUENCE, tlv(0x31, tlv(SEQUENCE, oid([2, 5, 4, 3]), tlv(0x0c, Buffer.from(common)))));
}

function time(unixMs: number): Buffer {
  const digits = new Date(unixMs).toISOString().replace(/\D/g, "").slice(2, 14);
  return tlv(0x17, Buffer.from(`${digits}Z`));
}

function extension(id: number[], value: Buffer): Buffer {
  return tlv(SEQUENCE, oid(id), tlv(0x04, value));
}
