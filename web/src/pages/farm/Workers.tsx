// The workers, and what they can be told: to rest, to go on, to leave; after what they hold or at once.
import { ActionIcon, Badge, Menu, Text } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { IconDoorExit, IconDots, IconPlayerPause, IconPlayerPlay } from "@tabler/icons-react";

import { useWorkerAction } from "../../api/queries";
import type { EngineOffer, WorkerView } from "../../api/schema";
import { modelName, useWords } from "../../words";
import style from "./Farm.module.css";
import { workerActions, workerState } from "./state";

const COLOURS = { ready: "blue", live: "farm", pausing: "orange", paused: "orange", draining: "orange", dismissed: "orange", gone: "gray" };
const ICONS = {
  pause: IconPlayerPause,
  "pause-now": IconPlayerPause,
  resume: IconPlayerPlay,
  drain: IconDoorExit,
  dismiss: IconDoorExit,
};

export function Workers({ workers, now }: { workers: readonly WorkerView[]; now: number }) {
  const { t } = useWords();
  if (!workers.length) return <Text c="dimmed">{t.farm.noWorkers}</Text>;
  return (
    <ul className={style.workers} aria-label={t.farm.workers}>
      {workers.map((one) => (
        <Worker key={one.id} one={one} now={now} />
      ))}
    </ul>
  );
}

function Worker({ one, now }: { one: WorkerView; now: number }) {
  const { t, ago, number } = useWords();
  const offers = one.engines as unknown as readonly EngineOffer[];
  const state = workerState(one);
  const facts: [string, string][] = [
    [t.farm.engine, offers.map((offer) => `${offer.engine}: ${modelsOf(offer, t.farm.anyModel)}`).join("; ")],
    [t.farm.device, [...new Set(offers.map(({ device }) => device)), t.farm.slots(one.slots)].join(" · ")],
    [t.farm.speed, one.speed ? t.list.speed(number(one.speed, one.speed < 10 ? 1 : 0)) : t.farm.none],
    [t.farm.holds, number(one.jobs)],
    ...(one.hours ? [[t.farm.hours, one.hours.replace("-", "–")] as [string, string]] : []),
    [t.farm.seen, ago(now - one.last_seen_at)],
  ];
  return (
    <li className={style.worker} data-gone={one.state === "gone" || undefined}>
      <div className={style.who}>
        <Text fw={600} truncate>
          {one.name}
        </Text>
        <Badge color={COLOURS[state]}>{t.farm.workerStates[state]}</Badge>
        <Text size="xs" c="dimmed">
          {one.version}
        </Text>
      </div>
      <dl className={style.facts}>
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      {one.state === "gone" || one.state === "dismissed" ? <span /> : <WorkerActions one={one} />}
    </li>
  );
}

function modelsOf(offer: EngineOffer, any: string): string {
  const models = offer.models ?? offer.loaded;
  return models?.length ? models.map(modelName).join(", ") : any;
}

function WorkerActions({ one }: { one: WorkerView }) {
  const { t } = useWords();
  const action = useWorkerAction();
  return (
    <Menu position="bottom-end" width={260}>
      <Menu.Target>
        <ActionIcon variant="subtle" color="gray" size="lg" aria-label={t.farm.actions(one.name)}>
          <IconDots size={18} />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        {workerActions(one).map((name) => {
          const Icon = ICONS[name];
          return (
            <Menu.Item
              key={name}
              leftSection={<Icon size={16} aria-hidden />}
              onClick={() =>
                action.mutate(
                  { id: one.id, action: name },
                  {
                    onSuccess: () => notifications.show({ message: t.farm.told[name](one.name) }),
                    onError: (error) => notifications.show({ color: "red", message: error.message }),
                  },
                )
              }
            >
              {t.farm.tell[name]}
              <Text size="xs" c="dimmed">
                {t.farm.tellHints[name]}
              </Text>
            </Menu.Item>
          );
        })}
      </Menu.Dropdown>
    </Menu>
  );
}
