/** A terminal's screen as an SVG picture, from the escape sequences in which tmux describes it. */

/** What begins a change of colours or style; tmux writes no other sequences. Its end is an `m`. */
export const SEQUENCE = "\u001b[";

const CELL = { width: 8.4, height: 18 };
const MARGIN = 14;
const BACKGROUND = "#1b1d23";
const FOREGROUND = "#d6d8de";

/** The sixteen colours that have names. */
const NAMED = [
  ...["#1b1d23", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#abb2bf"],
  ...["#5c6370", "#ef7d86", "#a9d48a", "#f0cd88", "#74c0ff", "#d78aec", "#67c7d3", "#ffffff"],
];

interface Style {
  color?: string;
  fill?: string;
  bold?: boolean;
  dim?: boolean;
  italic?: boolean;
  underlined?: boolean;
  inverse?: boolean;
}

interface Run {
  column: number;
  text: string;
  style: Style;
}

/** The picture of a screen of `columns`; rows that are empty at the end are left out. */
export function screenshot(screen: string, columns: number, title: string): string {
  const lines = screen.trimEnd().split("\n");
  const width = columns * CELL.width + 2 * MARGIN;
  const height = lines.length * CELL.height + 2 * MARGIN;
  let style: Style = {};
  const drawn = lines.flatMap((line, row) => {
    const read = runs(line, style);
    style = read.style;
    return read.runs.map((run) => draw(run, row));
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${number(width)} ${height}" width="${number(width)}" height="${height}" role="img">
<title>${escape(title)}</title>
<rect width="100%" height="100%" rx="8" fill="${BACKGROUND}"/>
<g font-family="ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="14" xml:space="preserve">
${drawn.filter((text) => text !== "").join("\n")}
</g>
</svg>
`;
}

/** A row as stretches of one style. */
function runs(line: string, before: Style): { runs: Run[]; style: Style } {
  const found: Run[] = [];
  let style = before;
  let column = 0;
  const add = (text: string): void => {
    if (text !== "") found.push({ column, text, style });
    column += [...text].length;
  };
  const [plain = "", ...rest] = line.split(SEQUENCE);
  add(plain);
  for (const piece of rest) {
    const end = piece.indexOf("m");
    style = styled(style, piece.slice(0, end).split(/[;:]/).map(Number));
    add(piece.slice(end + 1));
  }
  return { runs: found, style };
}

/** The style after a sequence that selects graphic renditions. */
function styled(before: Style, codes: number[]): Style {
  let style = { ...before };
  for (let at = 0; at < codes.length; at += 1) {
    const code = codes[at] ?? 0;
    if (code === 0) style = {};
    else if (code === 1) style.bold = true;
    else if (code === 2) style.dim = true;
    else if (code === 3) style.italic = true;
    else if (code === 4) style.underlined = true;
    else if (code === 7) style.inverse = true;
    else if (code === 22) style = { ...style, bold: false, dim: false };
    else if (code === 23) style.italic = false;
    else if (code === 24) style.underlined = false;
    else if (code === 27) style.inverse = false;
    else if (code === 38 || code === 48) {
      const direct = codes[at + 1] === 2;
      const color = direct ? rgb(codes.slice(at + 2, at + 5)) : indexed(codes[at + 2] ?? 0);
      style = code === 38 ? { ...style, color } : { ...style, fill: color };
      at += direct ? 4 : 2;
    } else if (code === 39) delete style.color;
    else if (code === 49) delete style.fill;
    else if (code >= 30 && code <= 37) style.color = indexed(code - 30);
    else if (code >= 40 && code <= 47) style.fill = indexed(code - 40);
    else if (code >= 90 && code <= 97) style.color = indexed(code - 82);
    else if (code >= 100 && code <= 107) style.fill = indexed(code - 92);
  }
  return style;
}

function rgb(parts: number[]): string {
  return `#${parts.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
}

/** A colour of the table of 256: named ones, a cube of six steps, greys. */
function indexed(index: number): string {
  if (index < 16) return NAMED[index] ?? FOREGROUND;
  if (index > 231) return rgb(Array<number>(3).fill(8 + (index - 232) * 10));
  const step = (value: number): number => (value === 0 ? 0 : 55 + value * 40);
  const cube = index - 16;
  return rgb([Math.floor(cube / 36), Math.floor(cube / 6) % 6, cube % 6].map(step));
}

function draw({ column, text, style }: Run, row: number): string {
  const [color = FOREGROUND, fill] = style.inverse
    ? [style.fill ?? BACKGROUND, style.color ?? FOREGROUND]
    : [style.color, style.fill];
  const x = MARGIN + column * CELL.width;
  const y = MARGIN + row * CELL.height;
  const width = number([...text].length * CELL.width);
  const box =
    fill === undefined
      ? ""
      : `<rect x="${number(x)}" y="${y}" width="${width}" height="${CELL.height}" fill="${fill}"/>`;
  if (text.trim() === "" && !style.underlined) return box;
  const looks = [
    style.bold ? ' font-weight="bold"' : "",
    style.dim ? ' opacity="0.6"' : "",
    style.italic ? ' font-style="italic"' : "",
    style.underlined ? ' text-decoration="underline"' : "",
  ].join("");
  // The stretch keeps its columns whatever the reader's font is.
  const size = `textLength="${width}" lengthAdjust="spacingAndGlyphs"`;
  return `${box}<text x="${number(x)}" y="${y + 13.5}" fill="${color}"${looks} ${size}>${escape(text)}</text>`;
}

function number(value: number): string {
  return String(Math.round(value * 10) / 10);
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll(" ", "\u00a0");
}
