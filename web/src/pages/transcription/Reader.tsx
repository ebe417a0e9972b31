// The text: rows as far as they are seen, words that can be clicked, the spoken word marked and followed.
import { ActionIcon, Button } from "@mantine/core";
import { useWindowVirtualizer } from "@tanstack/react-virtual";
import { IconLink, IconPencil, IconSparkles } from "@tabler/icons-react";
import { memo, type MouseEvent, type Ref, useCallback, useEffect, useImperativeHandle, useRef } from "react";

import type { ChunkState } from "../../shell/chunks";
import { reasonInWords } from "../../texts";
import { clock, useWords } from "../../words";
import { EditedRow } from "./Editor";
import { addMark, clearMark, letterAt, setMark } from "./highlights";
import style from "./Transcription.module.css";
import { DOUBTFUL, type Match, type Paragraph, pieceAt, type Row, rowAt, wordAt, wordAtPlace } from "./rows";
import { SpeakerMenu } from "./Speakers";
import type { EditorHandle } from "./useEditor";

export interface ReaderHandle {
  /** Show a row, and mark letters of it if given. */
  show(row: number, marked?: { readonly from: number; readonly to: number }): void;
  /** Mark the word that is spoken at a time; keep it in sight if `follow`. */
  speak(seconds: number, follow: boolean): void;
}

interface Props {
  readonly rows: readonly Row[];
  readonly matches: readonly Match[];
  readonly onSeek: (seconds: number) => void;
  readonly onLink: (seconds: number) => void;
  /** What corrects the text; null where it cannot be corrected. */
  readonly editor: EditorHandle | null;
  readonly ref: Ref<ReaderHandle>;
}

export function Reader({ rows, matches, onSeek, onLink, editor, ref }: Props) {
  const active = editor?.active?.start;
  const list = useRef<HTMLDivElement>(null);
  const virtual = useWindowVirtualizer({
    count: rows.length,
    estimateSize: () => 150,
    overscan: 6,
    scrollMargin: list.current?.offsetTop ?? 0,
    getItemKey: (index) => keyOf(rows[index]),
  });
  useHandle(ref, rows, virtual, list);
  const left = useRef(active);
  useEffect(() => {
    const index = left.current === undefined || active !== undefined ? -1 : rowAt(rows, left.current);
    left.current = active;
    if (document.activeElement === document.body) list.current?.querySelector<HTMLElement>(`[data-index="${index}"]`)?.focus({ preventScroll: true });
  }, [active, rows]); // Tab goes on where somebody has corrected
  return (
    <div ref={list} className={style.rows} style={{ height: virtual.getTotalSize() }} role="list">
      {virtual.getVirtualItems().map((item) => {
        const row = rows[item.index];
        return row ? (
          <div
            key={item.key}
            ref={virtual.measureElement}
            data-index={item.index}
            className={style.row}
            role="listitem"
            tabIndex={-1}
            style={{ transform: `translateY(${item.start - virtual.options.scrollMargin}px)` }}
          >
            {row.kind === "hole" ? (
              <Hole row={row} onSeek={onSeek} editor={editor} />
            ) : editor && row.pieces.some(({ segment }) => segment.start === active) ? (
              <>
                <Side row={row} onSeek={onSeek} onLink={onLink} editor={null} />
                <EditedRow row={row} editor={editor} />
              </>
            ) : <Text row={row} index={item.index} matches={matches} onSeek={onSeek} onLink={onLink} editor={editor} />}
          </div>
        ) : null;
      })}
    </div>
  );
}

const keyOf = (row: Row | undefined) => `${row?.start} ${row?.kind === "text" ? (row.speaker ?? "") : "?"}`;

function useHandle(
  ref: Ref<ReaderHandle>,
  rows: readonly Row[],
  virtual: ReturnType<typeof useWindowVirtualizer>,
  list: React.RefObject<HTMLDivElement | null>,
) {
  const spoken = useRef<{ row: number; from: number } | null>(null);
  useEffect(() => () => ["spoken" as const, "current" as const].forEach(clearMark), []);
  const paragraph = useCallback(
    (row: number) => list.current?.querySelector(`[data-index="${row}"] p`) ?? null,
    [list],
  );
  useImperativeHandle(
    ref,
    () => ({
      show(row, marked) {
        virtual.scrollToIndex(row, { align: "center" });
        if (!marked) return;
        const mark = (tries: number) => {
          const element = paragraph(row);
          if (element) setMark("current", element, marked.from, marked.to);
          else if (tries > 0) setTimeout(() => mark(tries - 1), 30);
        };
        mark(10);
      },
      speak(seconds, follow) {
        const index = rowAt(rows, seconds);
        const row = rows[index];
        if (row?.kind !== "text") return clearMark("spoken");
        const word = wordAt(row.words, seconds);
        const same = spoken.current?.row === index && spoken.current.from === word?.from;
        spoken.current = word ? { row: index, from: word.from } : null;
        const element = paragraph(index);
        if (word && (!same || element)) setMark("spoken", element, word.from, word.to);
        if (follow && !same && !inSight(element)) virtual.scrollToIndex(index, { align: "center" });
      },
    }),
    [rows, virtual, paragraph],
  );
}

/** Whether an element is in the part of the window that one reads in. */
function inSight(element: Element | null): boolean {
  if (!element) return false;
  const { top, bottom } = element.getBoundingClientRect();
  return top > 70 && bottom < window.innerHeight - 130;
}

interface TextProps {
  readonly row: Paragraph;
  readonly index: number;
  readonly matches: readonly Match[];
  readonly onSeek: (seconds: number) => void;
  readonly onLink: (seconds: number) => void;
  readonly editor: EditorHandle | null;
}

const Text = memo(function Text({ row, index, matches, onSeek, onLink, editor }: TextProps) {
  const text = useRef<HTMLParagraphElement>(null);
  useEffect(() => {
    const undo = row.words
      .filter(({ probability }) => probability !== null && probability < DOUBTFUL)
      .map(({ from, to }) => addMark("doubtful", text.current, from, to));
    const struck = row.pieces.filter(({ segment }) => segment.struck).map(({ from, to }) => addMark("struck", text.current, from, to));
    return () => [...undo, ...struck].forEach((one) => one());
  }, [row]);
  useEffect(() => {
    const undo = matches.filter((one) => one.row === index).map(({ from, to }) => addMark("found", text.current, from, to));
    return () => undo.forEach((one) => one());
  }, [row, index, matches]);
  const click = (event: MouseEvent<HTMLParagraphElement>) => {
    if (!getSelection()?.isCollapsed) return; // somebody selects text
    const letter = letterAt(event.clientX, event.clientY, event.currentTarget);
    const word = letter === null ? undefined : wordAtPlace(row.words, letter);
    onSeek(word?.start ?? row.start);
  };
  const edit = (event: MouseEvent<HTMLParagraphElement>) => {
    const letter = letterAt(event.clientX, event.clientY, event.currentTarget) ?? 0;
    const piece = pieceAt(row, letter);
    if (!editor || !piece) return;
    getSelection()?.removeAllRanges();
    editor.open({ start: piece.segment.start, caret: Math.max(0, letter - piece.from) });
  };
  const [first, last] = [row.pieces[0]?.index ?? 0, row.pieces.at(-1)?.index ?? 0];
  return (
    <>
      <Side row={row} onSeek={onSeek} onLink={onLink} editor={editor} />
      <div>
        {row.begins && (
          <div className={style.who}>
            {editor ? <SpeakerMenu speaker={row.speaker} editor={editor} from={first} to={last + 1} /> : <b>{row.speaker}</b>}
          </div>
        )}
        <p ref={text} className={style.text} onClick={click} onDoubleClick={edit} dir="auto">{row.text}</p>
      </div>
    </>
  );
});

function Side({ row, onSeek, onLink, editor }: Pick<TextProps, "row" | "onSeek" | "onLink" | "editor">) {
  const { t } = useWords();
  const at = clock(row.start);
  return (
    <div className={style.side}>
      <button type="button" className={style.time} aria-label={t.reader.playFrom(at)} onClick={() => onSeek(row.start)}>
        {at}
      </button>
      <span className={style.tools}>
        <ActionIcon className={style.link} variant="subtle" color="gray" size="sm" aria-label={`${t.reader.copyLink} (${at})`} onClick={() => onLink(row.start)}>
          <IconLink size={14} />
        </ActionIcon>
        {editor && (
          <ActionIcon className={style.link} variant="subtle" color="gray" size="sm" aria-label={t.edit.open(at)} onClick={() => editor.open({ start: row.pieces[0]?.segment.start ?? row.start, caret: 0 })}>
            <IconPencil size={14} />
          </ActionIcon>
        )}
      </span>
    </div>
  );
}

function Hole({ row, onSeek, editor }: { row: Exclude<Row, Paragraph>; onSeek: (seconds: number) => void; editor: EditorHandle | null }) {
  const { t } = useWords();
  const said = {
    waiting: () => t.reader.waiting,
    running: () => t.reader.running(row.said),
    cutting: () => t.reader.cutting,
    missing: () => t.reader.missing(t.chunkStates[row.said as ChunkState] ?? reasonInWords(row.said)),
  }[row.state]();
  return (
    <>
      <div className={style.side}>
        <button type="button" className={style.time} aria-label={t.reader.playFrom(clock(row.start))} onClick={() => onSeek(row.start)}>
          {clock(row.start)}
        </button>
      </div>
      <div className={style.hole} data-state={row.state}>
        {said} {row.end > row.start && <span className={style.span}>{t.reader.seconds(clock(row.start), clock(row.end))}</span>}
        {editor && row.state === "missing" && (
          <Button size="compact-sm" variant="subtle" color="red" leftSection={<IconSparkles size={15} aria-hidden />} onClick={() => editor.again(row.start, row.end)}>
            {t.edit.again}
          </Button>
        )}
      </div>
    </>
  );
}
