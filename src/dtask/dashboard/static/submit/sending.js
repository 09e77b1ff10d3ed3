// Sends a submit once, however often it is clicked: each body has a key, and a key is one job.
import { post } from "../api.js";
import { useRef, useState } from "../html.js";
import { navigate } from "../router.js";

const KEY_BYTES = 16;

/** `{busy, error, send(body), forget()}`: `send` goes on to the job, or leaves an `error`. */
export function useSending() {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const last = useRef({ text: null, key: null });

  async function send(body) {
    const text = JSON.stringify(body);
    // The same again, because it was clicked twice or no answer came, is the same job.
    if (last.current.text !== text) last.current = { text, key: newKey() };
    setBusy(true);
    setError(null);
    try {
      const { job_id: jobId } = await post("jobs", { key: last.current.key, ...body });
      navigate(`/jobs/${jobId}`);
    } catch (refusal) {
      setError(refusal);
      setBusy(false);
    }
  }

  return { busy, error, send, forget: () => setError(null) };
}

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(KEY_BYTES));
  return `page-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
