// Adding a machine: a line to copy, for each system, with a code that works once; and who waits to be let in.
import { Alert, Button, Code, Group, Loader, Modal, SegmentedControl, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { IconCopy, IconPlus } from "@tabler/icons-react";
import { useState } from "react";
import { encode } from "uqr";

import { useChange } from "../../api/change";
import { address, api, data } from "../../api/client";
import { copy } from "../../copy";
import { duration, useNow, useWords } from "../../words";
import style from "./Farm.module.css";
import { joinCommand, type System, systems } from "./joining";

const LOOK_MS = 4000;

export function AddMachine() {
  const { t } = useWords();
  const [opened, setOpened] = useState(false);
  const make = useChange(() => data(api.POST("/api/join-codes")), []);
  const open = () => {
    setOpened(true);
    make.mutate();
  };
  return (
    <Stack gap="sm" mb="sm">
      <Group>
        <Button variant="default" size="compact-md" leftSection={<IconPlus size={16} aria-hidden />} onClick={open}>
          {t.join.add}
        </Button>
      </Group>
      <Waiting />
      <Modal
        opened={opened}
        onClose={() => setOpened(false)}
        size="lg"
        title={t.join.title}
      >
        {make.isPending && <Loader aria-label={t.loading} />}
        {make.data?.code && <How code={make.data.code} until={make.data.expires_at} again={() => make.mutate()} />}
      </Modal>
    </Stack>
  );
}

function How({ code, until, again }: { code: string; until: number; again: () => void }) {
  const { t } = useWords();
  const now = useNow();
  const [system, setSystem] = useState<System>("unix");
  const command = joinCommand(system, address("").replace(/\/$/, ""), code);
  if (now > until) return <Button onClick={again}>{t.join.another}</Button>;
  return (
    <Stack gap="sm">
      <Text size="sm">{t.join.hint}</Text>
      <SegmentedControl
        aria-label={t.join.system}
        value={system}
        onChange={(value) => setSystem(value as System)}
        data={systems.map((value) => ({ value, label: t.join.systems[value] }))}
      />
      <Group wrap="nowrap" align="start">
        <Code block className={style.command} data-testid="join-command">
          {command}
        </Code>
        <Button size="compact-sm" leftSection={<IconCopy size={15} aria-hidden />} onClick={() => void copy(command, t)}>
          {t.join.copy}
        </Button>
      </Group>
      <Group wrap="nowrap" gap="lg">
        <Qr text={command} label={t.join.qr} />
        <Text size="sm" c="dimmed">
          {t.join.works(duration(until - now))}
        </Text>
      </Group>
    </Stack>
  );
}

/** Drawn here, dark on light in both themes: cameras want it so. */
function Qr({ text, label }: { text: string; label: string }) {
  const { data: rows, size } = encode(text, { border: 2 });
  const path = rows.map((row, y) => row.map((dark, x) => (dark ? `M${x} ${y}h1v1h-1z` : "")).join("")).join("");
  return (
    <svg className={style.qr} viewBox={`0 0 ${size} ${size}`} role="img" aria-label={label} shapeRendering="crispEdges">
      <path d={`M0 0h${size}v${size}h-${size}z`} fill="#fff" />
      <path d={path} fill="#000" />
    </svg>
  );
}

function Waiting() {
  const { t } = useWords();
  const { data: found } = useQuery({
    queryKey: ["join-codes"],
    queryFn: () => data(api.GET("/api/join-codes")),
    refetchInterval: LOOK_MS,
  });
  const decide = useChange(async ({ id, approved }: { id: string; approved: boolean }) => {
    const params = { path: { join_id: id } };
    if (approved) await data(api.POST("/api/join-codes/{join_id}/approve", { params }));
    else await data(api.DELETE("/api/join-codes/{join_id}", { params }));
  }, [["join-codes"]]);
  return found?.codes
    .filter((one) => one.name !== null)
    .map((one) => (
      <Alert key={one.id} color="orange" role="status" title={t.join.waits(one.name ?? "")}>
        <Group gap="xs">
          <Button size="compact-sm" onClick={() => decide.mutate({ id: one.id, approved: true })}>
            {t.join.approve}
          </Button>
          <Button size="compact-sm" variant="default" onClick={() => decide.mutate({ id: one.id, approved: false })}>
            {t.join.refuse}
          </Button>
        </Group>
      </Alert>
    ));
}
