import { html } from "./html.js";
import { Page } from "./router.js";

export function Job() {
  return html`<${Page} title="Job"><p>Nothing here yet.</p><//>`;
}
