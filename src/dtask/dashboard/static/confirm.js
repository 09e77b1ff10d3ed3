// A question before something that can't be taken back.
import { html, useEffect, useId, useRef, useState } from "./html.js";
import { ErrorNote } from "./parts.js";

/**
 * A modal question. `act` does it, and may be async: while it works the dialog stays, and shows its
 * error if it throws. `close` is called when it is done or not wanted. `danger` colours the button.
 *
 *     ${asked && html`<${Confirm} title="Cancel job 42?" action="Cancel the job" danger
 *         act=${() => del("jobs/42")} close=${() => setAsked(false)}>Its tasks are stopped.<//>`}
 */
export function Confirm({ title, action, danger, act, close, keep = "Keep as it is", children }) {
  const dialog = useRef();
  const titleId = useId();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);

  useEffect(() => {
    dialog.current.showModal();
  }, []);

  async function go() {
    setBusy(true);
    setError(null);
    try {
      await act();
      dialog.current?.close();
    } catch (refusal) {
      setError(refusal);
      setBusy(false);
    }
  }

  return html`
    <dialog class="confirm" ref=${dialog} aria-labelledby=${titleId} onClose=${close}>
      <h2 id=${titleId}>${title}</h2>
      <div class="confirm-body">${children}</div>
      ${error && html`<${ErrorNote} error=${error} />`}
      <div class="confirm-actions">
        <button type="button" class="button" onClick=${() => dialog.current.close()}>${keep}</button>
        <button type="button" class="button ${danger ? "danger" : "primary"}" disabled=${busy}
                onClick=${go}>${busy ? "Working…" : action}</button>
      </div>
    </dialog>
  `;
}
