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

/**
 * A component that is drawn again only when `same(props, next)` is false. Take this rather than
 * `useMemo` around a template: templates that are kept hold on to all that were drawn before them.
 */
export function memo(component, same) {
  return function Kept(props) {
    this.shouldComponentUpdate = (next) => !same(this.props, next);
    return h(component, props);
  };
}
