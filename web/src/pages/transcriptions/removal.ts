// Deleting with a way back: it is hidden at once, and deleted when the time to undo is over or the page is left.
import { useSyncExternalStore } from "react";

import { act } from "../../api/queries";

export const UNDO_MS = 7000;

let removed: ReadonlySet<string> = new Set();
const timers = new Map<string, ReturnType<typeof setTimeout>>();
const listeners = new Set<() => void>();

function set(change: (ids: Set<string>) => void): void {
  const ids = new Set(removed);
  change(ids);
  removed = ids;
  listeners.forEach((listener) => listener());
}

/** Hide it now, delete it soon. `failed` is told if it could not be deleted; then it is shown again. */
export function remove(id: string, failed: (error: Error) => void): void {
  set((ids) => ids.add(id));
  const finish = () => {
    timers.delete(id);
    act(id, "delete", true).catch((error: Error) => {
      set((ids) => ids.delete(id));
      failed(error);
    });
  };
  timers.set(id, setTimeout(finish, UNDO_MS));
  window.addEventListener("pagehide", () => timers.has(id) && finish(), { once: true });
}

export function undo(id: string): void {
  clearTimeout(timers.get(id));
  timers.delete(id);
  set((ids) => ids.delete(id));
}

/** Ids of what is hidden. */
export function useRemoved(): ReadonlySet<string> {
  return useSyncExternalStore((listener) => (listeners.add(listener), () => listeners.delete(listener)), () => removed);
}
