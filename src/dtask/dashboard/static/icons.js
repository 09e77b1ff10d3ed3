// Icons of the frame: drawn in a box of 16 by 16, in the colour of the text.
import { html } from "./html.js";

const SHAPES = {
  overview: html`<rect x="2" y="2" width="5" height="5" rx="1" /><rect x="9" y="2" width="5" height="5" rx="1" /><rect x="2" y="9" width="5" height="5" rx="1" /><rect x="9" y="9" width="5" height="5" rx="1" />`,
  workers: html`<rect x="2" y="2.5" width="12" height="4.5" rx="1" /><rect x="2" y="9" width="12" height="4.5" rx="1" /><path d="M4.8 4.75h.01M4.8 11.25h.01" />`,
  jobs: html`<path d="M5.5 4H14M5.5 8H14M5.5 12H14M2 4h.01M2 8h.01M2 12h.01" />`,
  failed: html`<path d="M8 2L14.5 13.5h-13zM8 6.5v3M8 11.6h.01" />`,
  submit: html`<path d="M8 10.5V2.5M4.8 5.5L8 2.3l3.2 3.2M2.5 10v3.5h11V10" />`,
  light: html`<circle cx="8" cy="8" r="3" /><path d="M8 1.2v1.6M8 13.2v1.6M1.2 8h1.6M13.2 8h1.6M3.2 3.2l1.1 1.1M11.7 11.7l1.1 1.1M3.2 12.8l1.1-1.1M11.7 4.3l1.1-1.1" />`,
  dark: html`<path d="M13.5 9.6A5.8 5.8 0 0 1 6.4 2.5a5.8 5.8 0 1 0 7.1 7.1z" />`,
  leave: html`<path d="M9.5 2.5h-6v11h6M6.5 8h7.5M11.3 5.2L14 8l-2.7 2.8" />`,
};

export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 16 16" aria-hidden="true">${SHAPES[name]}</svg>`;
}
