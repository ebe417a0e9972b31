// The keys of the page, and the sheet that names them.
import { Modal } from "@mantine/core";
import { useEffect, useRef } from "react";

import { useWords } from "../../words";
import style from "./Transcription.module.css";
import { type Player, RATES } from "./usePlayer";

export interface Doubts {
  readonly count: number;
  /** Go to the next or previous one; `edit` says that it is to be corrected. */
  step(by: 1 | -1, edit?: boolean): void;
}

interface Keys {
  readonly player: Player | null;
  readonly seek: (seconds: number) => void;
  readonly now: () => void;
  readonly doubts: Doubts;
  readonly finder: { readonly open: () => void };
  readonly keys: { readonly toggle: () => void };
  readonly link: () => void;
  /** Correct what is heard. */
  readonly edit: () => void;
  readonly undo: (redo: boolean) => void;
}

/** What transcription pedals send; it works while one types, too. */
export function pedals(player: Player | null, seek: (seconds: number) => void): Readonly<Record<string, (() => void) | undefined>> {
  const skip = (by: number) => () => player && seek(player.audio.currentTime + by);
  return { F7: skip(-5), F8: player?.toggle, F9: skip(5) };
}

export function useKeys({ player, seek, now, doubts, finder, keys, link, edit, undo }: Keys): void {
  const pedal = pedals(player, seek);
  const faster = (by: 1 | -1) => () => {
    if (!player) return;
    const next = RATES[RATES.indexOf(player.rate) + by];
    if (next !== undefined) player.setRate(next);
  };
  const actions: Readonly<Record<string, ((shift: boolean) => void) | undefined>> = {
    ...pedal,
    k: pedal.F8,
    " ": pedal.F8,
    j: pedal.F7,
    l: pedal.F9,
    ArrowLeft: pedal.F7,
    ArrowRight: pedal.F9,
    ",": faster(-1),
    ".": faster(1),
    n: () => doubts.step(1),
    N: () => doubts.step(-1),
    f: now,
    "/": finder.open,
    c: link,
    e: edit,
    "?": keys.toggle,
  };
  const withControl: Readonly<Record<string, (shift: boolean) => void>> = { z: undo, y: () => undo(true) };
  const latest = useRef({ actions, withControl });
  useEffect(() => void (latest.current = { actions, withControl }));
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      const at = event.target as Element;
      if (event.altKey || at.closest(TYPING) || (event.key !== "?" && document.querySelector("[aria-modal=true]"))) return;
      if (event.key === " " && at.closest("button, a")) return;
      const control = event.ctrlKey || event.metaKey;
      const action = control ? latest.current.withControl[event.key.toLowerCase()] : latest.current.actions[event.key];
      if (!action) return;
      event.preventDefault();
      action(event.shiftKey);
    };
    document.addEventListener("keydown", pressed);
    return () => document.removeEventListener("keydown", pressed);
  }, []);
}

/** Where keys have another meaning. */
const TYPING = "input, textarea, select, [role=slider], [role=menu]";

export function KeySheet({ opened, onClose, edits }: { opened: boolean; onClose: () => void; edits: boolean }) {
  const { t } = useWords();
  const editing: [string, string][] = [
    [`E, ${t.reader.editKeys.doubleClick}`, t.reader.editKeys.open],
    ["Enter", t.reader.editKeys.split],
    ["⌫, Del", t.reader.editKeys.merge],
    ["Alt K, F8", t.reader.keys.play],
    ["Alt J, Alt L, F7, F9", t.reader.keys.skip],
    ["Alt N, Alt Shift N", t.reader.keys.doubt],
    ["Alt X", t.reader.editKeys.strike],
    ["Alt R", t.reader.editKeys.restore],
    ["Ctrl Z, Ctrl Shift Z", t.reader.keys.undo],
    ["Esc", t.reader.editKeys.leave],
  ];
  const rows: [string, string][] = [
    ["Space, K", t.reader.keys.play],
    ["J, L, ←, →", t.reader.keys.skip],
    [",, .", t.reader.keys.speed],
    ["N, Shift N", t.reader.keys.doubt],
    ["F", t.reader.now],
    ["/", t.reader.findShort],
    ["C", t.reader.copyLink],
    ["?", t.reader.keys.help],
  ];
  return (
    <Modal opened={opened} onClose={onClose} size={520} title={t.reader.keysTitle}>
      <Sheet rows={rows} />
      {edits && (
        <>
          <h3 className={style.keysTitle}>{t.reader.whileEditing}</h3>
          <Sheet rows={editing} />
        </>
      )}
    </Modal>
  );
}

function Sheet({ rows }: { rows: readonly [string, string][] }) {
  return (
    <dl className={style.keys}>
      {rows.map(([key, said]) => (
        <div key={key}>
          <dt>{key.split(/, (?=.)/).map((each) => <kbd key={each}>{each}</kbd>)}</dt>
          <dd>{said}</dd>
        </div>
      ))}
    </dl>
  );
}
