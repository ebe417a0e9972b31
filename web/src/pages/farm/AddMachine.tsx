// Adding a machine: a line to copy, for each system, with a code that works once; and who waits to be let in.
import { Alert, Button, Code, Group, Loader, Modal, SegmentedControl, Stack, Switch, Text, TextInput } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useQuery } from "@tanstack/react-query";
import { IconCopy, IconPlus } from "@tabler/icons-react";
import { useState } from "react";
import { encode } from "uqr";

import { useChange } from "../../api/change";
import { address, api, data } from "../../api/client";
import { copy } from "../../copy";
import { Note, Small } from "../../shell/Parts";
import { duration, useNow, useWords } from "../../words";
import style from "./Farm.module.css";
import { joinCommand, onlyHere, type System, systems } from "./joining";

const KEYS = [["join-codes"]];

export function AddMachine() {
  const { t } = useWords();
  const [opened, { open, close }] = useDisclosure(false);
  const [approved, setApproved] = useState(false);
  const [owner, setOwner] = useState("");
  const make = useChange((approved: boolean) => {
    const query = owner.trim() ? { approved, owner: owner.trim() } : { approved };
    return data(api.POST("/api/join-codes", { params: { query } }));
  }, KEYS);
  const { data: found } = useCodes();
  const unused = found?.codes.some(({ id, name }) => id === make.data?.id && name === null);
  const decide = useDecision();
  const ask = (approved: boolean) => {
    if (make.data) decide.mutate({ id: make.data.id, approved: false }); // it may have been used: then there is none of that id
    setApproved(approved);
    make.mutate(approved);
  };
  return (
    <>
      <Button variant="default" leftSection={<IconPlus size={16} aria-hidden />} onClick={() => (open(), make.mutate(approved))}>
        {t.join.add}
      </Button>
      <Modal opened={opened} onClose={close} size="lg" title={t.join.add}>
        <Stack gap="sm">
          <Joining />
          {make.isPending && <Loader aria-label={t.loading} />}
          {unused && make.data?.code && <How code={make.data.code} until={make.data.expires_at} approved={approved} ask={ask} />}
          <form onSubmit={(event) => (event.preventDefault(), ask(approved))}>
            <Group align="end" gap="xs">
              <TextInput
                label={t.join.owner}
                placeholder={t.join.yours}
                maxLength={64}
                value={owner}
                onChange={(event) => setOwner(event.currentTarget.value)}
              />
              <Button type="submit" variant="default">{t.join.another}</Button>
            </Group>
          </form>
        </Stack>
      </Modal>
    </>
  );
}

interface HowProps {
  readonly code: string;
  readonly until: number;
  readonly approved: boolean;
  /** Another code. */
  readonly ask: (approved: boolean) => void;
}

function How({ code, until, approved, ask }: HowProps) {
  const { t } = useWords();
  const now = useNow();
  const [system, setSystem] = useState<System>("unix");
  const server = address("").replace(/\/$/, "");
  const command = joinCommand(system, server, code);
  if (now > until) return null;
  return (
    <>
      <Text size="sm">{t.join.hint}</Text>
      <SegmentedControl
        aria-label={t.join.system}
        value={system}
        onChange={(value) => setSystem(value as System)}
        data={systems.map((value) => ({ value, label: t.join.systems[value] }))}
      />
      <Code block className={style.command} data-testid="join-command">{command}</Code>
      {onlyHere(server) && <Alert color="orange" role="status">{t.join.onlyHere(new URL(server).host)}</Alert>}
      <Group wrap="nowrap" gap="lg" align="start">
        <Qr text={command} label={t.join.qr} />
        <Stack gap="sm">
          <Group>
            <Button leftSection={<IconCopy size={15} aria-hidden />} onClick={() => void copy(command, t)}>
              {t.join.copy}
            </Button>
          </Group>
          <Note>{t.join.works(duration(until - now))}</Note>
          <Switch label={t.join.approved} description={t.join.approvedHint} checked={approved} onChange={(event) => ask(event.currentTarget.checked)} />
        </Stack>
      </Group>
    </>
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

/** Lets a worker in or sends it away; or takes back a code that nobody has used. */
const useDecision = () =>
  useChange(async ({ id, approved }: { id: string; approved: boolean }) => {
    const params = { path: { join_id: id } };
    if (approved) await data(api.POST("/api/join-codes/{join_id}/approve", { params }));
    else await data(api.DELETE("/api/join-codes/{join_id}", { params }));
  }, KEYS);

const useCodes = () => useQuery({ queryKey: ["join-codes"], queryFn: () => data(api.GET("/api/join-codes")) });

/** The workers that wait to be let in. */
export function Joining() {
  const { t } = useWords();
  const { data: found } = useCodes();
  const decide = useDecision();
  return found?.codes
    .filter((one) => one.name !== null)
    .map((one) => (
      <Alert key={one.id} color="orange" mb="sm" role="status" title={t.join.waits(one.name ?? "")}>
        <Group gap="xs">
          <Small variant="filled" label={t.join.approve} onClick={() => decide.mutate({ id: one.id, approved: true })} />
          <Small variant="default" label={t.join.refuse} onClick={() => decide.mutate({ id: one.id, approved: false })} />
        </Group>
      </Alert>
    ));
}
