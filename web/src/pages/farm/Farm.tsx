// The farm at a glance: its state in one word, its workers, who did what when, how far each transcription is.
import { Badge, Button, Container, Group, Loader, Paper, SimpleGrid, Stack, Text, Title } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useInfiniteQuery, useQueries, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { IconRefresh } from "@tabler/icons-react";
import { type ReactNode, useState } from "react";

import { isActive, jobsQuery, listQuery, serverQuery, sessionQuery, useAction, workersQuery } from "../../api/queries";
import type { TranscriptionView } from "../../api/schema";
import { paceOf } from "../../pace";
import { ChunkMap } from "../../shell/ChunkMap";
import { isFatal, Problem } from "../../shell/Failed";
import { Entries, Entry, type Fact, Note, Small, WithCode } from "../../shell/Parts";
import { StateBadge } from "../../shell/StateBadge";
import { reasonInWords } from "../../texts";
import { duration, useNow, useWords } from "../../words";
import { Jobs } from "../transcription/Jobs";
import { Pace, problemOf, Trouble } from "../transcriptions/Row";
import { AddMachine, Joining } from "./AddMachine";
import style from "./Farm.module.css";
import { Lanes } from "./Lanes";
import { lanesOf, WINDOW_SECONDS } from "./lanes";
import { Machines, useMachines } from "./Machines";
import { type FarmState, farmState, secondsLeft } from "./state";
import { Workers } from "./Workers";

/** Whose jobs are looked at: those that run, and those that ended within the window of the lanes. */
const MOST_LOOKED_AT = 12;
const LOOK_MS = 2000;
const COLOURS: Record<FarmState, string> = { idle: "gray", working: "farm", waiting: "orange", empty: "red" };

export function Farm() {
  const { t } = useWords();
  const now = useNow();
  const { data: session } = useQuery(sessionQuery);
  const admin = session?.scope === "admin";
  const server = useQuery(serverQuery);
  const workers = useQuery({ ...workersQuery, enabled: admin, refetchInterval: LOOK_MS });
  const { data: machines } = useMachines(admin);
  const list = useInfiniteQuery(listQuery());
  const all = list.data?.pages.flatMap((page) => page.transcriptions) ?? [];
  const active = all.filter(isActive);
  const recent = all.filter((one) => isActive(one) || (one.finished_at ?? 0) > now - WINDOW_SECONDS).slice(0, MOST_LOOKED_AT);
  const jobs = useQueries({
    queries: recent.map((one) => ({ ...jobsQuery(one.id), refetchInterval: isActive(one) ? LOOK_MS : (false as const) })),
    combine: (results) => results.map(({ data }) => data ?? []),
  });
  const error = server.error ?? workers.error ?? list.error;
  if (isFatal(error, server.data && list.data)) return <Container py="lg"><Problem error={error} /></Container>;
  if (!server.data || !list.data) return <Container py="lg"><Loader aria-label={t.loading} /></Container>;
  const work = recent.map(({ id }, index) => ({ id, jobs: jobs[index] ?? [] }));
  const held = admin ? (workers.data ?? []).reduce((sum, one) => sum + one.jobs, 0) : null;
  const live = admin ? workers.data?.filter(({ state, resting }) => state === "live" && !resting).length : undefined;
  const numbers = { workers: live ?? server.data.workers_live, queued: server.data.jobs_queued, held };
  return (
    <Container size="lg" py="lg">
      <Stack gap="xl">
        <Summary numbers={numbers} active={active} now={now} />
        {admin && (
          <Section title={t.farm.workers} action={<AddMachine />}>
            <Joining />
            <Workers workers={workers.data ?? []} now={now} />
          </Section>
        )}
        {machines && machines.pools.length + machines.machines.length > 0 && (
          <Section title={t.machines.title} hint={t.machines.hint}><Machines found={machines} /></Section>
        )}
        <Section title={t.farm.lanes} hint={t.farm.lanesHint}>
          <Lanes workers={lanesOf(work, now)} now={now} names={new Map(all.map((one) => [one.id, one.name]))} />
        </Section>
        <SetAside />
        <Section title={t.farm.maps}>
          {active.length === 0 && <Text c="dimmed">{t.farm.noMaps}</Text>}
          <Stack gap="lg">
            {active.slice(0, MOST_LOOKED_AT).map((one) => (
              <ChunksOf key={one.id} one={one} now={now} jobs={work.find(({ id }) => id === one.id)?.jobs ?? []} />
            ))}
          </Stack>
        </Section>
      </Stack>
    </Container>
  );
}

function Section({ title, hint, action, children }: { title: string; hint?: string; action?: ReactNode; children: ReactNode }) {
  return (
    <section>
      <Group justify="space-between">
        <Title order={2}>{title}</Title>
        {action}
      </Group>
      {hint && <Note>{hint}</Note>}
      <div className={style.section}>{children}</div>
    </section>
  );
}

interface SummaryProps {
  readonly numbers: { workers: number; queued: number; held: number | null };
  readonly active: readonly TranscriptionView[];
  readonly now: number;
}

function Summary({ numbers, active, now }: SummaryProps) {
  const { t, number } = useWords();
  const state = farmState(numbers, active.filter((one) => one.state === "running").length);
  const sentence = {
    idle: () => t.farm.sentences.idle(numbers.workers),
    working: () => t.farm.sentences.working(numbers.held ?? active.length, numbers.workers),
    waiting: () => t.farm.sentences.waiting,
    empty: () => (numbers.held === null ? t.list.noWorker : t.farm.sentences.empty),
  }[state]();
  const pace = active.reduce((sum, one) => sum + (paceOf(one.id, one.progress.done_seconds ?? 0, now) ?? 0), 0);
  const left = secondsLeft(active);
  const waiting = active.filter((one) => one.state === "queued").map((one) => one.created_at);
  const facts: Fact[] = [
    ...(numbers.queued ? [[t.farm.queued, number(numbers.queued)] as const] : []),
    ...(left > 0 ? [[t.farm.audioLeft, duration(left)] as const] : []),
    ...(pace > 0 ? [[t.farm.throughput, t.list.speed(number(pace, pace < 10 ? 1 : 0))] as const] : []),
    ...(left > 0 && pace > 0 ? [[t.farm.drain, duration(left / pace)] as const] : []),
    ...(waiting.length ? [[t.farm.oldest, duration(now - Math.min(...waiting))] as const] : []),
  ];
  return (
    <header>
      <Group gap="sm" align="center">
        <Title order={1}>{t.nav.farm}</Title>
        <Badge size="lg" color={COLOURS[state]} data-testid="farm-state">{t.farm.states[state]}</Badge>
      </Group>
      <Text c="dimmed" mt={4}><WithCode text={sentence} /></Text>
      {facts.length > 0 && (
        <SimpleGrid component="dl" cols={{ base: 2, xs: 3, md: 5 }} spacing="sm" mt="md" mb={0}>
          {facts.map(([name, value]) => (
            <Paper key={name} withBorder className={style.fact}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </Paper>
          ))}
        </SimpleGrid>
      )}
    </header>
  );
}

/** What did not go well, to be looked at and tried again. */
function SetAside() {
  const { t, ago } = useWords();
  const now = useNow(30);
  const [looked, setLooked] = useState<TranscriptionView | null>(null);
  const retry = useAction();
  const { data } = useInfiniteQuery(listQuery(["failed", "incomplete"]));
  const troubled = data?.pages[0]?.transcriptions ?? [];
  const mendable = troubled.filter((each) => each.mendable);
  const jobs = looked && <Jobs one={looked} onClose={() => setLooked(null)} />;
  if (!troubled.length) return jobs;
  return (
    <Section title={t.farm.setAside} hint={t.farm.setAsideHint}>
      <Paper withBorder px="md">
        <Entries label={t.farm.setAside}>
          {troubled.map((each) => (
            <Entry
              key={each.id}
              name={<Link to="/transcriptions/$id" params={{ id: each.id }} className={style.map}>{each.name}</Link>}
              badge={<StateBadge state={each.state} />}
              about={[
                ago(now - (each.finished_at ?? each.created_at)),
                each.owner,
                each.progress.chunks_failed ? t.farm.chunksSetAside(each.progress.chunks_failed) : null,
              ]}
              bad={problemOf(each) || reasonInWords(each.gaps?.[0]?.reason ?? "")}
            >
              <Small label={t.farm.attempts} onClick={() => setLooked(each)} />
              {each.mendable && <Small label={t.tryAgain} onClick={() => retry.mutate({ id: each.id, action: "retry" })} />}
            </Entry>
          ))}
        </Entries>
      </Paper>
      {mendable.length > 1 && (
        <Button
          mt="sm"
          size="xs"
          variant="default"
          leftSection={<IconRefresh size={16} aria-hidden />}
          onClick={() => mendable.forEach(({ id }) => retry.mutate({ id, action: "retry" }))}
        >
          {t.farm.retryAll(mendable.length)}
        </Button>
      )}
      {jobs}
    </Section>
  );
}

function ChunksOf({ one, now, jobs }: { one: TranscriptionView; now: number; jobs: Parameters<typeof ChunkMap>[0]["jobs"] }) {
  const { t } = useWords();
  const [looking, look] = useDisclosure(false);
  const { chunks_done: done = 0, chunks = 0 } = one.progress;
  return (
    <div>
      <Group justify="space-between" mb={6}>
        <Link to="/transcriptions/$id" params={{ id: one.id }} className={style.map} dir="auto" title={one.name}>{one.name}</Link>
        <Group gap="xs">
          <StateBadge state={one.state} />
          <Pace one={one} now={now} />
          <Small label={t.farm.attempts} onClick={look.open} />
        </Group>
      </Group>
      {looking && <Jobs one={one} onClose={look.close} />}
      <Trouble one={one} />
      <ChunkMap jobs={jobs} onPick={look.open} label={t.farm.mapOf(one.name, done, chunks)} />
    </div>
  );
}
