// Codes as patterns: one square a bit, in reading order; where two codes differ, the squares are larger and orange.

const NAMESPACE = "http://www.w3.org/2000/svg";
const CELL = 10;
const SMALL = 6; // equal bits
const LARGE = 9; // differing bits: told apart by size as well as by colour
const OUTLINED = 7.5; // those that are zero, with room for their outline

/** The bits of a hex code; bit j is in byte j // 8 at position j % 8. */
export function bitsOf(hex) {
  const bytes = hex.match(/../g).map((pair) => parseInt(pair, 16));
  return bytes.flatMap((byte) => Array.from({ length: 8 }, (_, position) => (byte >> position) & 1));
}

export function distanceBetween(hex, other) {
  const others = bitsOf(other);
  return bitsOf(hex).filter((bit, position) => bit !== others[position]).length;
}

/** An SVG of the code; with another code, the bits that differ from it stand out. */
export function pattern(hex, other = null) {
  const bits = bitsOf(hex);
  const others = other === null ? bits : bitsOf(other);
  const columns = bits.length <= 64 ? 16 : bits.length <= 512 ? 32 : 64;
  const rows = Math.ceil(bits.length / columns);
  const svg = document.createElementNS(NAMESPACE, "svg");
  svg.setAttribute("class", "bits");
  svg.setAttribute("viewBox", `0 0 ${columns * CELL} ${rows * CELL}`);
  svg.setAttribute("role", "img");
  const differing = bits.flatMap((bit, position) => (bit === others[position] ? [] : [position]));
  svg.setAttribute("aria-label", describe(bits.length, other === null ? null : differing));
  const paths = { "off same": "", "on same": "", "off differs": "", "on differs": "" };
  bits.forEach((bit, position) => {
    const differs = bit !== others[position];
    const size = differs ? (bit ? LARGE : OUTLINED) : SMALL;
    paths[`${bit ? "on" : "off"} ${differs ? "differs" : "same"}`] += square(position, columns, size);
  });
  for (const [name, outline] of Object.entries(paths)) {
    const path = document.createElementNS(NAMESPACE, "path");
    path.setAttribute("class", name);
    path.setAttribute("d", outline);
    svg.append(path);
  }
  return svg;
}

function square(position, columns, size) {
  const inset = (CELL - size) / 2;
  const x = (position % columns) * CELL + inset;
  const y = Math.floor(position / columns) * CELL + inset;
  return `M${x} ${y}h${size}v${size}h-${size}z`;
}

function describe(length, differing) {
  if (differing === null) return `Code of ${length} bits`;
  if (!differing.length) return `All ${length} bits equal the query's`;
  return `${differing.length} of ${length} bits differ from the query's: ${differing.join(", ")}`;
}
