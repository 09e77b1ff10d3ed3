import { html } from "./html.js";
import { Page } from "./router.js";

export function Jobs() {
  return html`<${Page} title="Jobs"><p>Nothing here yet.</p><//>`;
}
