// Ramps that a colour-blind reader can tell apart: viridis for amounts, blue - grey - orange for signs (Okabe and Ito).

const VIRIDIS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]];
const SIGNS = [[0, 90, 160], [60, 140, 195], [150, 190, 220], [225, 225, 225], [240, 190, 130], [225, 130, 50], [180, 70, 0]];

function along(ramp, share) {
  const place = Math.min(Math.max(share, 0), 1) * (ramp.length - 1);
  const low = Math.min(Math.floor(place), ramp.length - 2), part = place - low;
  return ramp[low].map((value, i) => Math.round(value + part * (ramp[low + 1][i] - value)));
}

export const amount = (share) => along(VIRIDIS, share);
export const signed = (value, most) => along(SIGNS, most > 0 ? 0.5 + (0.5 * value) / most : 0.5);
export const rgb = ([r, g, b]) => `rgb(${r} ${g} ${b})`;

// black or white, whichever is read better on a colour (relative luminance of WCAG 2; as in the report's page.js)
export const ink = (color) => {
  const [r, g, b] = color.map((value) => (value <= 10 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
};
