// Where it begins: sign in if there is a code, listen, and draw.
import { Frame } from "./frame.js";
import { html, render, useEffect, useState } from "./html.js";
import { connect, start, useSelected } from "./live.js";
import { SignIn, codeInAddress, useCode } from "./signin.js";

function App({ refusal }) {
  const out = useSelected((live) => live.state === "signed-out");
  const [error, setError] = useState(refusal);
  useEffect(() => {
    // A tab that is open already may be given a new code by its address.
    const again = () => codeInAddress() && enter().then(setError);
    addEventListener("hashchange", again);
    return () => removeEventListener("hashchange", again);
  }, []);
  return out ? html`<${SignIn} error=${error} />` : html`<${Frame} />`;
}

/** Use the code of the address, if there is one, and begin. What was wrong with it, or null. */
async function enter() {
  const code = codeInAddress();
  let refusal = null;
  if (code !== null) refusal = await useCode(code).then(() => null, (error) => error);
  await connect(); // whatever became of the code, there may be a session
  return refusal;
}

start();
enter().then((refusal) => render(html`<${App} refusal=${refusal} />`, document.getElementById("app")));
