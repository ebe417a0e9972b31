// The machines that the farm places: pools with their limits and switches, machines with age, cost and log.
import { Alert, Badge, Button, Group, Loader, Modal, Paper, Stack, Table, Text, VisuallyHidden } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { IconPlus, IconRefresh } from "@tabler/icons-react";
import { useState } from "react";

import { useChange } from "../../api/change";
import { api, data } from "../../api/client";
import type { MachineList, MachineView, PoolChange, PoolView } from "../../api/schema";
import { Actions, type Fact, Facts, Note, Small } from "../../shell/Parts";
import { clock, duration, useNow, useWords } from "../../words";
import style from "./Farm.module.css";
import { actionsOf, type MachineAction, oneMore, spentToday } from "./machines";

const LOOK_MS = 3000;
const SWITCH_COLOURS = { on: "farm", paused: "orange", drained: "orange", stopped: "red" };

type Order =
  | { readonly pool: string; readonly change: Partial<PoolChange> }
  | { readonly machine: string; readonly action: MachineAction }
  | "sync";

const useOrder = () =>
  useChange(async (order: Order) => {
    if (order === "sync") return void (await data(api.POST("/api/machines/sync")));
    if ("pool" in order) {
      await data(api.POST("/api/pools/{pool}", { params: { path: { pool: order.pool } }, body: { automatic: false, ...order.change } }));
    } else {
      const path = { machine: order.machine, action: order.action };
      await data(api.POST("/api/machines/{machine}/{action}", { params: { path } }));
    }
  }, [["machines"]]);

export function useMachines(enabled: boolean) {
  return useQuery({
    queryKey: ["machines"],
    queryFn: () => data(api.GET("/api/machines")),
    enabled,
    refetchInterval: ({ state }) => (state.data?.pools.length ? LOOK_MS : false),
  });
}

export function Machines({ found }: { found: MachineList }) {
  const { t, number } = useWords();
  const order = useOrder();
  const [log, setLog] = useState<string | null>(null);
  const there = found.machines.filter((one) => one.ended_at === null);
  const gone = found.machines.length - there.length;
  return (
    <Stack gap="md">
      {found.pools.map((pool) => (
        <Pool key={pool.name} pool={pool} run={(change) => order.mutate({ pool: pool.name, change })} />
      ))}
      <Group justify="space-between">
        <Note>{t.machines.today(number(spentToday(found.pools), 2), gone)}</Note>
        <Group gap="xs">
          <Small label={t.machines.log} onClick={() => setLog("")} />
          <Button
            size="compact-sm"
            variant="subtle"
            leftSection={<IconRefresh size={15} aria-hidden />}
            onClick={() => order.mutate("sync")}
          >
            {t.machines.sync}
          </Button>
        </Group>
      </Group>
      {there.length > 0 && (
        <Table.ScrollContainer minWidth={640} scrollAreaProps={{ viewportProps: { tabIndex: 0 } }}>
          <Table verticalSpacing="xs" aria-label={t.machines.title}>
            <Table.Thead>
              <Table.Tr>
                {[t.machines.machine, t.machines.state, t.machines.age, t.machines.cost, t.machines.jobs, t.machines.why].map((name) => (
                  <Table.Th key={name}>{name}</Table.Th>
                ))}
                <Table.Th><VisuallyHidden>{t.machines.actions}</VisuallyHidden></Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {there.map((one) => (
                <Machine
                  key={one.id}
                  one={one}
                  showLog={() => setLog(one.id)}
                  run={(action) => order.mutate({ machine: one.id, action })}
                />
              ))}
            </Table.Tbody>
          </Table>
        </Table.ScrollContainer>
      )}
      {log !== null && <Log machine={log} close={() => setLog(null)} />}
    </Stack>
  );
}

function Pool({ pool, run }: { pool: PoolView; run: (change: Partial<PoolChange>) => void }) {
  const { t, number } = useWords();
  const money = (value: number) => number(value, 2);
  const more = oneMore(pool);
  const facts: Fact[] = [
    [t.machines.work, t.machines.of(pool.working, pool.counted, pool.maximum)],
    [t.options.model, pool.model ?? t.farm.anyModel],
    [t.machines.spent, pool.budget_per_day === null ? money(pool.spent_today) : t.list.of(money(pool.spent_today), money(pool.budget_per_day))],
    [t.machines.spentInAll, pool.budget_total === null ? money(pool.spent) : t.list.of(money(pool.spent), money(pool.budget_total))],
    [t.machines.audioHour, pool.price_per_audio_hour === null ? t.farm.none : number(pool.price_per_audio_hour, 3)],
    [t.machines.left, leftOf(pool, t.farm.none)],
  ];
  return (
    <Paper withBorder p="md" component="section" aria-label={t.machines.pool(pool.name)}>
      <Group justify="space-between" wrap="nowrap" align="start">
        <Group gap="sm">
          <Text fw={650}>{pool.name}</Text>
          <Badge color={SWITCH_COLOURS[pool.switch]}>{t.machines.switches[pool.switch]}</Badge>
          {pool.fixed !== null && <Badge color="gray">{t.machines.byHand(pool.fixed)}</Badge>}
        </Group>
        <Group gap={4} wrap="nowrap">
          <Button
            size="compact-sm"
            variant="default"
            disabled={more === null}
            leftSection={<IconPlus size={15} aria-hidden />}
            onClick={() => more !== null && run({ fixed: more, switch: "on" })}
          >
            {t.machines.create}
          </Button>
          <PoolMenu pool={pool} run={run} />
        </Group>
      </Group>
      {pool.blocked !== null && <Alert color="red" role="status" mt="sm">{t.machines.blocked(pool.blocked)}</Alert>}
      <Text size="sm" my="xs"><b>{t.machines.whySoMany(pool.wanted)}</b> {pool.why}</Text>
      <Facts facts={facts} />
    </Paper>
  );
}

function leftOf({ seconds_left: now, seconds_left_at_maximum: most }: PoolView, none: string): string {
  if (!now && !most) return none;
  return [now, most].map((seconds) => (seconds ? duration(seconds) : none)).join(" / ");
}

function PoolMenu({ pool, run }: { pool: PoolView; run: (change: Partial<PoolChange>) => void }) {
  const { t } = useWords();
  const switches = (["on", "paused", "drained", "stopped"] as const).filter((one) => one !== pool.switch);
  const actions = switches.map((one) => ({
    label: t.machines.switchTo[one],
    hint: t.machines.switchHints[one],
    danger: one === "stopped",
    run: () => run({ switch: one }),
  }));
  const automatic = pool.fixed === null ? [] : [{ label: t.machines.automatic, run: () => run({ automatic: true }) }];
  return <Actions label={t.list.actions(pool.name)} actions={[...actions, ...automatic]} width={280} />;
}

function Machine({ one, showLog, run }: { one: MachineView; showLog: () => void; run: (action: MachineAction) => void }) {
  const { t, number } = useWords();
  const states: Readonly<Record<string, string>> = t.machines.states;
  return (
    <Table.Tr>
      <Table.Td className={style.id}>{[one.id, one.region].filter(Boolean).join(" · ")}</Table.Td>
      <Table.Td>
        <Badge color={one.state === "working" ? "farm" : one.failure ? "red" : "gray"}>{states[one.state] ?? one.state}</Badge>
      </Table.Td>
      <Table.Td>{duration(one.age_seconds)}</Table.Td>
      <Table.Td>{number(one.cost, 3)}</Table.Td>
      <Table.Td>{number(one.jobs)}</Table.Td>
      <Table.Td>{one.failure ?? (one.work.length ? <Work work={one.work} /> : one.why)}</Table.Td>
      <Table.Td>
        <Actions
          label={t.list.actions(one.id)}
          width={200}
          actions={[
            { label: t.machines.log, run: showLog },
            ...actionsOf(one).map((action) => ({ label: t.machines.verbs[action], danger: action === "destroy", run: () => run(action) })),
          ]}
        />
      </Table.Td>
    </Table.Tr>
  );
}

/** What a machine works on now: which stretch of which transcription. */
function Work({ work }: { work: MachineView["work"] }) {
  return work.map((one) => (
    <div key={one.transcription_id + one.kind}>
      <Link to="/transcriptions/$id" params={{ id: one.transcription_id }}>{one.name}</Link>
      {one.kind === "transcribe" && ` ${clock(one.start_seconds)}–${clock(one.end_seconds)}`}
    </div>
  ));
}

/** What happened to one machine, or (with an empty name) to all. */
function Log({ machine, close }: { machine: string; close: () => void }) {
  const { t, ago } = useWords();
  const now = useNow();
  const { data: found } = useQuery({
    queryKey: ["machines", "log", machine],
    queryFn: () => data(api.GET("/api/machines/log", { params: { query: machine ? { machine } : {} } })),
  });
  return (
    <Modal opened onClose={close} size="lg" title={t.machines.logOf(machine)}>
      {!found && <Loader aria-label={t.loading} />}
      {found?.lines.length === 0 && <Text c="dimmed">{t.machines.noLog}</Text>}
      <ol className={style.log}>
        {found?.lines.map((line, index) => (
          <li key={index} data-failed={line.kind.endsWith("failed") || line.kind === "crash" || undefined}>
            <Text size="xs" c="dimmed">
              {ago(now - line.at)} · {machine ? line.kind : `${line.machine ?? line.pool} · ${line.kind}`}
            </Text>
            {line.text}
          </li>
        ))}
      </ol>
    </Modal>
  );
}
