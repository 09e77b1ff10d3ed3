// The page of somebody who is not signed in: how to be.
import { post } from "./api.js";
import { html } from "./html.js";
import { tellTabs } from "./live.js";
import { ThemeButton } from "./frame.js";
import { Command, ErrorNote } from "./parts.js";

/** The code that `dtask dashboard` put into the address, if it did. */
export function codeInAddress() {
  const found = /^#code=(.+)$/.exec(location.hash);
  return found ? found[1] : null;
}

/** Trade the code for a session, and take it out of the address and the history. */
export async function useCode(code) {
  history.replaceState(null, "", "#/");
  await post("session", { code });
  tellTabs();
}

export function SignIn({ error }) {
  document.title = "Sign in · dtask";
  return html`
    <main class="sign-in">
      <div class="sign-in-box">
        <p class="brand"><img src="icon.svg" alt="" width="28" height="28" />dtask</p>
        <h1>Sign in</h1>
        <${ErrorNote} error=${error} />
        <p>Run this on the scheduler's machine, or wherever you have its token:</p>
        <${Command}>dtask dashboard<//>
        <p class="dim">It opens this page with a code that works once and for a minute. A session lasts
          12 hours; the token itself never comes near the browser.</p>
      </div>
      <${ThemeButton} />
    </main>
  `;
}
