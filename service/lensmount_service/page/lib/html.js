/** Preact, its hooks and `html` for templates: one import for every view. Strings become text nodes, never markup. */

export {
  Component, createContext, html, render, useCallback, useContext, useEffect, useErrorBoundary, useLayoutEffect, useMemo, useReducer, useRef, useState,
} from "../vendor/htm-preact.js";
