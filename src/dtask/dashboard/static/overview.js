import { html } from "./html.js";
import { Page } from "./router.js";

export function Overview() {
  return html`<${Page} title="Overview"><p>Nothing here yet.</p><//>`;
}
