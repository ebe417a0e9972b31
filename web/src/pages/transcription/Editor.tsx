// A paragraph while it is corrected: a field for each segment, saved as one types.
import { ActionIcon, Button, Group, Text, Tooltip } from "@mantine/core";
import { IconArrowBackUp, IconArrowMergeLeft, IconCheck, IconPlayerPlay, IconSparkles, IconStrikethrough } from "@tabler/icons-react";
import { type KeyboardEvent, useEffect, useLayoutEffect, useRef, useState } from "react";

import { clock, useWords } from "../../words";
import type { Paragraph, Piece } from "./rows";
import { boundary, joined, merged, patchOf, placed, type Segment, sent, split, struckOut, subtitle, textOf, tidy } from "./segments";
import { SpeakerMenu } from "./Speakers";
import style from "./Editor.module.css";
import type { EditorHandle } from "./useEditor";

const SAVE_AFTER_MS = 700;

export function EditedRow({ row, editor }: { row: Paragraph; editor: EditorHandle }) {
  const { t } = useWords();
  return (
    <div className={style.paragraph}>
      {row.pieces.map((piece, n) => (
        <SegmentField
          key={piece.segment.start === row.pieces[n - 1]?.segment.start ? `${piece.segment.start} ${n}` : piece.segment.start}
          piece={piece}
          editor={editor}
        />
      ))}
      <Group gap="xs" justify="flex-end" className={style.actions}>
        <Button
          size="compact-sm"
          variant="subtle"
          leftSection={<IconSparkles size={15} aria-hidden />}
          onClick={() => editor.again(row.start, row.end)}
        >
          {t.edit.again}
        </Button>
        <Button size="compact-sm" leftSection={<IconCheck size={15} aria-hidden />} onClick={() => editor.open(null)}>
          {t.edit.close}
        </Button>
      </Group>
    </div>
  );
}

/** The text of a field: what is typed, when it is sent, and what happens when somebody else changes it. */
function useDraft({ segment, index }: Piece, editor: EditorHandle) {
  const { corrections } = editor;
  const text = textOf(segment);
  const [draft, setDraft] = useState(text);
  const now = useRef({ draft, segment, index, dirty: false, base: corrections.number, composing: false });
  now.current.segment = segment;
  now.current.index = index;
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const sending = useRef<Promise<unknown>>(Promise.resolve());
  const set = (value: string) => {
    now.current.draft = value;
    setDraft(value);
  };
  useLayoutEffect(() => {
    const mine = now.current;
    if (mine.dirty && tidy(mine.draft) !== text) return; // it goes on its way, and the farm says if it is too late
    if (tidy(mine.draft) !== text) set(text);
    mine.dirty = false;
    mine.base = corrections.number;
  }, [text, corrections]);
  const save = (leaving = false): Promise<unknown> => {
    clearTimeout(timer.current);
    sending.current = sending.current.then(async () => {
      const mine = now.current;
      const wanted = tidy(mine.draft);
      if (!mine.dirty || mine.composing || (!wanted && !leaving)) return;
      mine.dirty = false;
      if (wanted === textOf(mine.segment)) return;
      const next = wanted ? [sent(mine.segment, { text: wanted })] : [];
      const taken = await corrections.patch(patchOf(editor.segments(), mine.index, mine.index + 1, next), mine.base);
      mine.base = corrections.number;
      if (!taken) {
        mine.dirty = false;
        set(textOf(mine.segment));
      }
    });
    return sending.current;
  };
  const latest = useRef(save);
  latest.current = save;
  useEffect(() => {
    const flush = () => latest.current();
    editor.drafts.add(flush);
    return () => {
      editor.drafts.delete(flush);
      void latest.current(true);
    };
  }, [editor.drafts]);
  return {
    draft,
    save,
    type: (value: string) => {
      set(value);
      now.current.dirty = true;
      clearTimeout(timer.current);
      timer.current = setTimeout(() => void save(), SAVE_AFTER_MS);
    },
    composing: (value: boolean) => void (now.current.composing = value),
  };
}

function SegmentField({ piece, editor }: { piece: Piece; editor: EditorHandle }) {
  const { t } = useWords();
  const { segment } = piece;
  const area = useRef<HTMLTextAreaElement>(null);
  const { draft, save, type, composing } = useDraft(piece, editor);
  const { active } = editor;
  const mine = active?.start === segment.start ? active : null;
  useEffect(() => {
    const field = area.current;
    if (!mine || !field) return;
    field.focus({ preventScroll: true });
    field.setSelectionRange(mine.caret, mine.caret);
    field.scrollIntoView({ block: "nearest" });
  }, [mine]);
  const act = useSegmentActions(segment, editor, save);
  const press = (event: KeyboardEvent<HTMLTextAreaElement>) => {
    if (event.nativeEvent.isComposing) return;
    const field = event.currentTarget;
    const { selectionStart: from, selectionEnd: to, value } = field;
    const atStart = from === 0 && to === 0;
    const atEnd = from === value.length && to === value.length;
    const done = (work: () => unknown) => {
      event.preventDefault();
      work();
    };
    const control = event.ctrlKey || event.metaKey;
    if (control && event.key.toLowerCase() === "z") return done(() => editor.undo(event.shiftKey));
    if (control && event.key.toLowerCase() === "y") return done(() => editor.undo(true));
    if (control && event.key.toLowerCase() === "s") return done(() => void save());
    if (event.altKey && event.code === "KeyX") return done(() => void act.strike(from, to));
    if (event.altKey && event.code === "KeyR") return done(() => void act.restore());
    if (editor.key(event)) return event.preventDefault();
    if (control || event.altKey) return;
    if (event.key === "Escape") return done(() => editor.open(null));
    if (event.key === "Enter") return done(() => void act.split(from));
    if (event.key === "Backspace" && atStart) return done(() => void act.merge(-1));
    if (event.key === "Delete" && atEnd) return done(() => void act.merge(1));
    if (event.key === "ArrowUp" && atStart) return done(() => act.go(-1));
    if (event.key === "ArrowDown" && atEnd) return done(() => act.go(1));
  };
  return (
    <div className={style.segment} data-struck={segment.struck || undefined}>
      <Group gap={6} className={style.line}>
        <SpeakerMenu speaker={segment.speaker ?? null} editor={editor} from={piece.index} to={piece.index + 1} />
        <Lengths segment={segment} draft={draft} letters={editor.letters} />
        <span className={style.tools}>
          <Tool label={t.edit.hear(clock(segment.start))} onClick={() => editor.play(segment.start)}>
            <IconPlayerPlay size={15} />
          </Tool>
          <Tool label={segment.struck ? t.edit.unstrike : t.edit.strike} onClick={() => void act.strike(0, 0)}>
            <IconStrikethrough size={15} />
          </Tool>
          <Tool label={t.edit.mergeBefore} disabled={piece.index === 0} onClick={() => void act.merge(-1)}>
            <IconArrowMergeLeft size={15} />
          </Tool>
          <Tool label={t.edit.restore} onClick={() => void act.restore()}><IconArrowBackUp size={15} /></Tool>
        </span>
      </Group>
      <div className={style.grow} data-value={draft}>
      <textarea
        ref={area}
        className={style.field}
        aria-label={t.edit.textAt(clock(segment.start))}
        dir="auto"
        rows={1}
        spellCheck
        value={draft}
        onChange={(event) => {
          editor.typing();
          type(event.currentTarget.value);
        }}
        onFocus={() => !mine && editor.open({ start: segment.start, caret: area.current?.selectionStart ?? 0 })}
        onBlur={() => void save(true)}
        onCompositionStart={() => composing(true)}
        onCompositionEnd={() => composing(false)}
        onKeyDown={press}
        onDoubleClick={(event) => {
          const word = placed(segment).findLast(({ from }) => from <= event.currentTarget.selectionStart);
          editor.play(word?.start ?? segment.start);
        }}
      />
      </div>
    </div>
  );
}

function Tool({ label, onClick, disabled = false, children }: {
  label: string;
  onClick: () => void;
  disabled?: boolean;
  children: React.ReactNode;
}) {
  return (
    <Tooltip label={label} openDelay={400} events={{ hover: true, focus: false, touch: false }}>
      <ActionIcon variant="subtle" color="gray" size="md" aria-label={label} disabled={disabled} onClick={onClick}>
        {children}
      </ActionIcon>
    </Tooltip>
  );
}

/** How the text reads as a subtitle; said aloud only where it is too much. */
function Lengths({ segment, draft, letters }: { segment: Segment; draft: string; letters: number }) {
  const { t, number } = useWords();
  const { perSecond, fast, long } = subtitle(segment, tidy(draft), letters);
  return (
    <Text span size="xs" className={style.lengths} data-bad={fast || long || undefined}>
      {t.edit.letters(tidy(draft).length)} · {t.edit.perSecond(number(perSecond))}
      {long ? ` · ${t.edit.tooLong(letters)}` : fast ? ` · ${t.edit.tooFast}` : ""}
    </Text>
  );
}

/** What can be done with a segment. What is written is sent first, so each of them begins with what stands there. */
function useSegmentActions(segment: Segment, editor: EditorHandle, save: () => Promise<unknown>) {
  const { corrections, open } = editor;
  const after = async (work: (all: readonly Segment[], index: number, one: Segment) => Promise<unknown> | undefined) => {
    await save();
    const all = editor.segments();
    const index = all.findIndex(({ start }) => start === segment.start);
    const one = all[index];
    if (one) await work(all, index, one);
  };
  return {
    split: (caret: number) =>
      after(async (all, index, one) => {
        const halves = split(one, boundary(one, caret));
        if (!halves || !(await corrections.patch(patchOf(all, index, index + 1, halves)))) return;
        open({ start: halves[1].start, caret: 0 });
      }),
    merge: (by: 1 | -1) =>
      after(async (all, index) => {
        const first = by < 0 ? index - 1 : index;
        const [one, other] = [all[first], all[first + 1]];
        if (!one || !other) return;
        const caret = joined(textOf(one), textOf(other)).length - textOf(other).length;
        if (await corrections.patch(patchOf(all, first, first + 2, [merged(one, other)]))) open({ start: one.start, caret });
      }),
    strike: (from: number, to: number) =>
      after((all, index, one) => corrections.patch(patchOf(all, index, index + 1, struckOut(one, from, to)))),
    restore: () => after((all, index) => corrections.patch(patchOf(all, index, index + 1, null))),
    go: (by: 1 | -1) => {
      const all = editor.segments();
      const next = all[all.findIndex(({ start }) => start === segment.start) + by];
      if (next) open({ start: next.start, caret: by < 0 ? textOf(next).length : 0 });
    },
  };
}
