/** Renders a terminal's screen as SVG: text with color sequences, one cell at a time. */

export interface Palette {
  background: string;
  text: string;
}

export const PALETTES = {
  dark: { background: "#16181d", text: "#d7dae0" },
  light: { background: "#ffffff", text: "#24292f" },
} as const;

const [WIDTH, HEIGHT, MARGIN] = [8.4, 18, 12];

interface Style {
  color?: string | undefined;
  fill?: string | undefined;
  bold: boolean;
  italic: boolean;
  reverse: boolean;
}

/** `screen` is what `Terminal.screen(true)` returns. Supports the SGR that Pi uses: true colors, bold, italic, reverse. */
export function svg(screen: string, columns: number, { background, text }: Palette): string {
  const lines = screen.replace(/\s+$/, "").split("\n");
  const [width, height] = [columns * WIDTH + 2 * MARGIN, lines.length * HEIGHT + 2 * MARGIN];
  const style: Style = { bold: false, italic: false, reverse: false };
  const shapes: string[] = [];
  for (const [row, line] of lines.entries()) {
    let column = 0;
    // oxlint-disable-next-line no-control-regex
    for (const [, codes, run] of line.matchAll(/\u001b\[([\d;]*)m|([^\u001b]+)/g)) {
      if (run === undefined) {
        applySgr(style, codes ?? "");
        continue;
      }
      const cells = [...run].length;
      const [x, y] = [MARGIN + column * WIDTH, MARGIN + row * HEIGHT];
      if (style.reverse || style.fill !== undefined) {
        const fill = style.reverse ? "" : ` fill="${style.fill}"`;
        shapes.push(
          `<rect x="${x.toFixed(1)}" y="${y}" width="${(cells * WIDTH).toFixed(1)}" height="${HEIGHT}"${fill}/>`,
        );
      }
      if (!style.reverse && run.trim() !== "") shapes.push(textElement(run, cells, x, y + 13, style));
      column += cells;
    }
  }
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width.toFixed(0)} ${height}" width="${width.toFixed(0)}" ` +
    `font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace" font-size="14" fill="${text}">\n` +
    `<rect width="100%" height="100%" rx="8" fill="${background}"/>\n${shapes.join("\n")}\n</svg>\n`
  );
}

function textElement(run: string, cells: number, x: number, y: number, { color, bold, italic }: Style): string {
  const escaped = run.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  const looks = `${bold ? ' font-weight="bold"' : ""}${italic ? ' font-style="italic"' : ""}`;
  const paint = `${color === undefined ? "" : ` fill="${color}"`}${looks}`;
  const length = `textLength="${(cells * WIDTH).toFixed(1)}" lengthAdjust="spacingAndGlyphs"`;
  return `<text x="${x.toFixed(1)}" y="${y}" ${length} xml:space="preserve"${paint}>${escaped}</text>`;
}

function applySgr(style: Style, codes: string): void {
  const numbers = codes.split(";").map(Number);
  for (let at = 0; at < numbers.length; at += 1) {
    const code = numbers[at];
    if (code === 0)
      Object.assign(style, { color: undefined, fill: undefined, bold: false, italic: false, reverse: false });
    else if (code === 1) style.bold = true;
    else if (code === 22) style.bold = false;
    else if (code === 3) style.italic = true;
    else if (code === 23) style.italic = false;
    else if (code === 7) style.reverse = true;
    else if (code === 27) style.reverse = false;
    else if (code === 39) style.color = undefined;
    else if (code === 49) style.fill = undefined;
    else if ((code === 38 || code === 48) && numbers[at + 1] === 2) {
      const paint = `rgb(${numbers.slice(at + 2, at + 5).join(",")})`;
      if (code === 38) style.color = paint;
      else style.fill = paint;
      at += 4;
    }
  }
}
