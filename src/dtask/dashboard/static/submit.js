import { html } from "./html.js";
import { Page } from "./router.js";

export function Submit() {
  return html`<${Page} title="Submit"><p>Nothing here yet.</p><//>`;
}
