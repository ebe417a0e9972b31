// Recognising again: a passage, or all of it, with another model, language or names to expect. What is heard is a
// transcription of its own until somebody takes it or leaves it; both texts are shown.
import { Alert, Button, Group, Loader, Modal, SegmentedControl, Stack } from "@mantine/core";
import { useLocalStorage } from "@mantine/hooks";
import { useQuery } from "@tanstack/react-query";
import { IconSparkles } from "@tabler/icons-react";
import { useEffect, useState } from "react";

import { failed } from "../../api/change";
import { api, data } from "../../api/client";
import { act, hasTranscript, isActive, transcriptionQuery } from "../../api/queries";
import type { TranscriptionView } from "../../api/schema";
import { Facts, Small } from "../../shell/Parts";
import { clock, useWords } from "../../words";
import { type Chosen, DEFAULT, RecognitionFields, SpeakerFields, toOptions, useUsual } from "../transcriptions/Options";
import { Bar, problemOf } from "../transcriptions/Row";
import { boundsOf, kept, speakersOf } from "./again";
import { said } from "./corrections";
import type { EditorHandle } from "./useEditor";
import style from "./Editor.module.css";
import type { Segment } from "./segments";
import { transcriptQuery } from "./useTranscript";

interface Stretch {
  readonly start: number;
  readonly end: number;
}

/** What is being recognised again, remembered by this browser until it is taken or left. */
interface Pending extends Stretch {
  readonly id: string;
  readonly whole: boolean;
}

export interface Again {
  readonly asked: Stretch | null;
  readonly pending: Pending | null;
  ask(start: number, end: number): void;
  close(): void;
  begin(chosen: Chosen, whole: boolean): Promise<void>;
  end(): void;
}

const MOST_SHOWN = 1500;

export function useAgain(one: TranscriptionView): Again {
  const usual = useUsual();
  const [asked, setAsked] = useState<Stretch | null>(null);
  const [pending, setPending] = useLocalStorage<Pending | null>({ key: `again:${one.id}`, defaultValue: null, getInitialValueInEffect: false });
  return {
    asked,
    pending,
    ask: (start, end) => setAsked({ start, end }),
    close: () => setAsked(null),
    async begin(chosen, whole) {
      if (!asked) return;
      const { start, end } = asked;
      const stretch = whole ? {} : { start_seconds: start, end_seconds: end };
      const name = whole ? one.name : `${one.name} (${clock(start)} – ${clock(end)})`;
      const diarize = chosen.diarize && whole && !heardApart(one);
      const had = kept(one.options, diarize ? chosen.speakers : null);
      const options = { ...had, ...toOptions({ ...chosen, diarize }, usual), ...stretch };
      const made = await data(
        api.POST("/api/transcriptions", {
          body: { name: name.slice(-255), transcription_id: one.id, options, peaks: false } as never,
        }),
      );
      setPending({ id: made.id, start: whole ? 0 : start, end: whole ? (one.progress.duration_seconds ?? end) : end, whole });
      setAsked(null);
    },
    end: () => setPending(null),
  };
}

/** Whether each channel is a speaker. */
const heardApart = ({ options }: TranscriptionView) => options.channel === "each";

export function AgainDialog({ one, again }: { one: TranscriptionView; again: Again }) {
  const { t } = useWords();
  const { asked } = again;
  const [whole, setWhole] = useState(false);
  const [busy, setBusy] = useState(false);
  const [chosen, setChosen] = useState<Chosen>(DEFAULT);
  useEffect(() => {
    if (!asked) return;
    const { engine, model, language, initial_prompt, task, diarize } = one.options;
    setWhole(false);
    setChosen({
      model: engine === "faster-whisper" ? model : `${engine}: ${model}`,
      language: language ?? one.language ?? "",
      task: task ?? "transcribe",
      prompt: initial_prompt ?? "",
      priority: 0,
      diarize: diarize ?? false,
      speakers: speakersOf(one.options),
    });
  }, [asked, one]);
  const choose = (change: Partial<Chosen>) => setChosen((had) => ({ ...had, ...change }));
  const begin = () => {
    setBusy(true);
    again
      .begin(chosen, whole)
      .catch(failed)
      .finally(() => setBusy(false));
  };
  return (
    <Modal
      opened={asked !== null}
      onClose={again.close}
      size="lg"
      title={asked ? t.edit.againAt(clock(asked.start), clock(asked.end)) : ""}
    >
      <Stack gap="md">
        <SegmentedControl
          aria-label={t.edit.againScope}
          value={whole ? "whole" : "passage"}
          onChange={(value) => setWhole(value === "whole")}
          data={[{ value: "passage", label: t.edit.againPassage }, { value: "whole", label: t.edit.againWhole }]}
        />
        <RecognitionFields chosen={chosen} choose={choose} />
        {whole && <SpeakerFields chosen={chosen} choose={choose} apart={heardApart(one)} bounds={boundsOf(one.options)} />}
        <Group justify="flex-end">
          <Button leftSection={<IconSparkles size={17} aria-hidden />} loading={busy} onClick={begin}>
            {t.edit.againStart}
          </Button>
        </Group>
      </Stack>
    </Modal>
  );
}

/** What became of it: it runs, or both texts, of which one is chosen. */
export function AgainResult({ one, again, editor, onShow }: {
  one: TranscriptionView;
  again: Again;
  editor: EditorHandle;
  onShow: (seconds: number) => void;
}) {
  const { t } = useWords();
  const { pending } = again;
  const { data: other, isError } = useQuery({ ...transcriptionQuery(pending?.id ?? ""), enabled: pending !== null });
  const done = other !== undefined && hasTranscript(other);
  const { data: heard } = useQuery({ ...transcriptQuery(other ?? one), enabled: done });
  useEffect(() => {
    if (isError) again.end(); // somebody has deleted it
  }, [isError]);
  if (!pending || !other) return null;
  const what = pending.whole ? t.edit.againWhole : t.reader.seconds(clock(pending.start), clock(pending.end));
  const leave = async () => {
    again.end();
    if (isActive(other)) await act(other.id, "cancel");
    await act(other.id, "delete");
  };
  const take = async (keep: boolean) => {
    const { id, start, end } = pending;
    if (await editor.corrections.change({ adopt: { transcription_id: id, start, end, keep_edits: keep } })) await leave();
  };
  if (isActive(other)) {
    return (
      <Alert color="blue" icon={<Loader size={18} aria-hidden />} title={t.edit.againRuns(what)}>
        <Bar one={other} />
        <Small label={t.list.cancel} onClick={() => void leave()} />
      </Alert>
    );
  }
  if (!done) {
    return (
      <Alert color="red" title={t.edit.againFailed(what)} withCloseButton closeButtonLabel={t.close} onClose={() => void leave()}>
        {problemOf(other)}
      </Alert>
    );
  }
  return (
    <Alert color="farm" icon={<IconSparkles size={18} aria-hidden />} title={t.edit.againReady(what)} role="status">
      <Facts
        look={style.both}
        facts={[
          [t.edit.nowThere, shown(editor.segments(), pending) || t.edit.removed],
          [t.edit.heardNow, heard ? shown(heard.segments, pending) || t.edit.againNothing : ""],
        ]}
      />
      <Group gap="xs">
        {pending.whole && <Small variant="filled" label={t.edit.takeUnwritten} onClick={() => void take(true)} />}
        <Button size="compact-sm" variant={pending.whole ? "default" : "filled"} onClick={() => void take(false)}>
          {t.edit.takeNew}
        </Button>
        <Small variant="default" label={t.edit.leaveIt} onClick={() => void leave()} />
        {!pending.whole && <Small label={t.edit.showIt} onClick={() => onShow(pending.start)} />}
      </Group>
    </Alert>
  );
}

function shown(segments: readonly Segment[], { start, end }: Stretch): string {
  const text = said(segments.filter((one) => start <= (one.start + one.end) / 2 && (one.start + one.end) / 2 < end));
  return text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)} …` : text;
}
