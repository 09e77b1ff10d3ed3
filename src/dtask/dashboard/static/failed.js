import { html } from "./html.js";
import { Page } from "./router.js";

export function Failed() {
  return html`<${Page} title="Failed"><p>Nothing here yet.</p><//>`;
}
