import { html } from "./html.js";
import { Page } from "./router.js";

export function Worker() {
  return html`<${Page} title="Worker"><p>Nothing here yet.</p><//>`;
}
