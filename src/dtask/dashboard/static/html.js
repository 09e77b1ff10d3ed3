// Preact, its hooks, and `html`: templates without a build step.
// Whatever a template is given becomes text or an attribute, never markup.
import { h } from "./vendor/preact.js";
import htm from "./vendor/htm.js";

export { Fragment, createContext, h, render } from "./vendor/preact.js";
export {
  useCallback,
  useContext,
  useEffect,
  useErrorBoundary,
  useId,
  useLayoutEffect,
  useMemo,
  useReducer,
  useRef,
  useState,
} from "./vendor/hooks.js";

export const html = htm.bind(h);
