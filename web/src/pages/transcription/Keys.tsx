// The keys of the page, and the sheet that names them.
import { Modal } from "@mantine/core";
import { useEffect, useRef } from "react";

import { useWords } from "../../words";
import style from "./Transcription.module.css";
import { type Player, RATES } from "./usePlayer";

export interface Doubts {
  readonly count: number;
  step(by: 1 | -1): void;
}

interface Keys {
  readonly player: Player | null;
  readonly seek: (seconds: number) => void;
  readonly now: () => void;
  readonly doubts: Doubts;
  readonly finder: { readonly open: () => void };
  readonly keys: { readonly toggle: () => void };
  readonly link: () => void;
}

export function useKeys({ player, seek, now, doubts, finder, keys, link }: Keys): void {
  const skip = (by: number) => () => player && seek(player.audio.currentTime + by);
  const faster = (by: 1 | -1) => () => {
    if (!player) return;
    const next = RATES[RATES.indexOf(player.rate) + by];
    if (next !== undefined) player.setRate(next);
  };
  const actions: Readonly<Record<string, () => void>> = {
    k: () => player?.toggle(),
    " ": () => player?.toggle(),
    j: skip(-5),
    l: skip(5),
    ArrowLeft: skip(-5),
    ArrowRight: skip(5),
    ",": faster(-1),
    ".": faster(1),
    n: () => doubts.step(1),
    N: () => doubts.step(-1),
    f: now,
    "/": finder.open,
    c: link,
    "?": keys.toggle,
  };
  const latest = useRef(actions);
  useEffect(() => void (latest.current = actions));
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      const at = event.target as Element;
      if (event.ctrlKey || event.metaKey || event.altKey || at.closest(TYPING)) return;
      if (event.key === " " && at.closest("button, a")) return;
      const action = latest.current[event.key];
      if (!action) return;
      event.preventDefault();
      action();
    };
    document.addEventListener("keydown", pressed);
    return () => document.removeEventListener("keydown", pressed);
  }, []);
}

/** Where keys have another meaning. */
const TYPING = "input, textarea, select, [role=slider], [role=menu]";

export function KeySheet({ opened, onClose }: { opened: boolean; onClose: () => void }) {
  const { t } = useWords();
  const rows: [string, string][] = [
    ["Space, K", t.reader.keys.play],
    ["J, L, ←, →", t.reader.keys.skip],
    [", .", t.reader.keys.speed],
    ["N, Shift N", t.reader.keys.doubt],
    ["F", t.reader.keys.follow],
    ["/", t.reader.keys.find],
    ["C", t.reader.keys.copy],
    ["?", t.reader.keys.help],
  ];
  return (
    <Modal opened={opened} onClose={onClose} title={t.reader.keysTitle} closeButtonProps={{ "aria-label": t.close }}>
      <dl className={style.keys}>
        {rows.map(([key, said]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{said}</dd>
          </div>
        ))}
      </dl>
    </Modal>
  );
}
