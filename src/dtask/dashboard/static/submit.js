// Hand in a job: one command by a form, or a job file by an editor.
import { html } from "./html.js";
import { Panel } from "./parts.js";
import { Page, setQuery } from "./router.js";
import { CommandForm } from "./submit/command_form.js";
import { FileEditor } from "./submit/file_editor.js";

/** What was chosen last, kept while other pages are looked at. */
let kept = "command";

export function Submit({ query }) {
  kept = query.get("as") ?? kept;
  const isFile = kept === "file";
  const tabs = html`
    <div class="switch" role="group" aria-label="What is submitted">
      <button type="button" aria-pressed=${!isFile} onClick=${() => setQuery({ as: "command" })}>One command</button>
      <button type="button" aria-pressed=${isFile} onClick=${() => setQuery({ as: "file" })}>Job file</button>
    </div>`;
  const lead = isFile
    ? html`A graph of tasks, as YAML or JSON: the same file that <code>dtask submit</code> takes.`
    : "One program with its words, once or as an array.";
  return html`
    <${Page} title="Submit" lead=${lead} actions=${tabs}>
      <${Panel} class="submit">${isFile ? html`<${FileEditor} />` : html`<${CommandForm} />`}<//>
    <//>
  `;
}
