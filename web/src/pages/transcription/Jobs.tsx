// The jobs of a transcription, with every attempt at them: who, how long, and what went wrong; and trying again.
import { Badge, Button, Group, Loader, Modal, SegmentedControl, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { IconRefresh } from "@tabler/icons-react";
import { useState } from "react";

import { isActive, jobsQuery, transcriptionQuery, useAction, useRetryJob } from "../../api/queries";
import type { AttemptView, JobView, TranscriptionView } from "../../api/schema";
import { ChunkMap } from "../../shell/ChunkMap";
import { chunkState } from "../../shell/chunks";
import { Entries, Small } from "../../shell/Parts";
import { inWords } from "../../texts";
import { clock, useNow, useWords } from "../../words";
import { Pace, Trouble } from "../transcriptions/Row";
import style from "./Transcription.module.css";

const PAGE = 50;
const LOOK_MS = 2000;
const COLOURS = { waiting: "gray", running: "blue", hedged: "violet", done: "farm", retried: "lime", failed: "red", cancelled: "gray" };

interface Props {
  readonly one: TranscriptionView;
  readonly onClose: () => void;
  readonly onPick?: (seconds: number) => void;
}

export function Jobs({ one: known, onClose, onPick }: Props) {
  const { t } = useWords();
  const { data: one = known } = useQuery(transcriptionQuery(known.id));
  const now = useNow(isActive(one) ? 1 : 60);
  const retry = useAction();
  const again = useRetryJob();
  const [shown, setShown] = useState<"troubled" | "all" | null>(null);
  const [most, setMost] = useState(PAGE);
  const { data: jobs } = useQuery({ ...jobsQuery(one.id), refetchInterval: isActive(one) ? LOOK_MS : false });
  const troubled = jobs?.filter((job) => job.state === "failed" || job.attempts?.some(({ error_code }) => error_code)) ?? [];
  const wanted = shown ?? (troubled.length ? "troubled" : "all");
  const list = wanted === "troubled" ? troubled : (jobs ?? []);
  return (
    <Modal opened onClose={onClose} size="lg" title={t.jobs.title(one.name)}>
      <Stack gap="md">
        <Group justify="space-between">
          <Pace one={one} now={now} />
          {one.mendable && (
            <Button leftSection={<IconRefresh size={16} aria-hidden />} onClick={() => retry.mutate({ id: one.id, action: "retry" })}>
              {t.jobs.retry}
            </Button>
          )}
        </Group>
        <Trouble one={one} />
        {!jobs && <Loader aria-label={t.loading} />}
        {jobs && <ChunkMap jobs={jobs} label={t.farm.mapOf(one.name, one.progress.chunks_done ?? 0, one.progress.chunks ?? 0)} />}
        <SegmentedControl
          aria-label={t.jobs.which}
          value={wanted}
          onChange={setShown}
          data={[
            { value: "troubled", label: t.jobs.troubled(troubled.length) },
            { value: "all", label: t.jobs.all(jobs?.length ?? 0) },
          ]}
        />
        {jobs && !list.length && <Text c="dimmed">{t.jobs.none}</Text>}
        <Entries label={t.jobs.title(one.name)}>
          {list.slice(0, most).map((job) => (
            <Job
              key={job.id}
              job={job}
              now={now}
              {...(onPick ? { onPick } : {})}
              {...(job.state === "failed" && (one.mendable || job.kind === "peaks") ? { onRetry: () => again.mutate({ id: one.id, job: job.id }) } : {})}
            />
          ))}
        </Entries>
        {list.length > most && <Small label={t.list.more} onClick={() => setMost(most + PAGE)} />}
      </Stack>
    </Modal>
  );
}

interface JobProps {
  readonly job: JobView;
  readonly now: number;
  readonly onPick?: (seconds: number) => void;
  readonly onRetry?: () => void;
}

function Job({ job, now, onPick, onRetry }: JobProps) {
  const { t } = useWords();
  const state = chunkState(job);
  const name = job.kind === "transcribe" ? t.reader.seconds(clock(job.start_seconds), clock(job.end_seconds)) : t.jobs.kinds[job.kind];
  return (
    <li className={style.job}>
      <Group gap="xs" justify="space-between">
        {onPick && job.kind === "transcribe" ? <Small label={name} onClick={() => onPick(job.start_seconds)} /> : <b>{name}</b>}
        <Group gap="xs">
          {onRetry && <Small label={t.jobs.retryOne} onClick={onRetry} />}
          <Badge color={COLOURS[state]}>{t.chunkStates[state]}</Badge>
        </Group>
      </Group>
      <ol className={style.attempts}>{job.attempts?.map((one) => <Attempt key={one.number} one={one} now={now} />)}</ol>
    </li>
  );
}

function Attempt({ one, now }: { one: AttemptView; now: number }) {
  const { t, number } = useWords();
  const seconds = Math.max(0, (one.ended_at ?? now) - one.started_at);
  const facts = [one.worker_name ?? one.worker_id, `${number(seconds, 1)} s`, t.jobs.attempts[one.state], one.hedge ? t.jobs.hedge : null];
  return (
    <li data-bad={one.error_code ? true : undefined}>
      {facts.filter(Boolean).join(" · ")}
      {one.error_code && <div>{inWords(one.error_code, one.error_message ?? "")}</div>}
    </li>
  );
}
