import { html } from "./html.js";
import { Page } from "./router.js";

export function Workers() {
  return html`<${Page} title="Workers"><p>Nothing here yet.</p><//>`;
}
