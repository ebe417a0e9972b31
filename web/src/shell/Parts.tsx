// What pages are made of, written once: a section, facts, a list of entries, a menu of actions, a secret shown once.
import { ActionIcon, Alert, Badge, Button, Card, Code, Group, Menu, Modal, Stack, Text, TextInput, Title } from "@mantine/core";
import { IconCopy, IconDots } from "@tabler/icons-react";
import { type ComponentType, type FormEvent, type ReactNode, useEffect, useState } from "react";

import { copy } from "../copy";
import { useWords } from "../words";
import style from "./Parts.module.css";

/** What is said smaller. */
export const Note = ({ children }: { children: ReactNode }) => <Text size="sm" c="dimmed">{children}</Text>;

export function Section({ title, hint, children }: { title: string; hint?: ReactNode; children: ReactNode }) {
  return (
    <Card withBorder padding="lg" component="section" aria-label={title}>
      <Stack gap="sm">
        <Title order={2}>{title}</Title>
        {hint && <Note>{hint}</Note>}
        {children}
      </Stack>
    </Card>
  );
}

/** Asks for a name. */
export function NameDialog({ title, label, given, hint, known = [], most = 100, opened, onClose, onName }: {
  title: string;
  label: string;
  given: string;
  hint?: string;
  /** Names that are offered. */
  known?: readonly string[];
  most?: number;
  opened: boolean;
  onClose: () => void;
  onName: (name: string) => void;
}) {
  const { t } = useWords();
  const [name, setName] = useState(given);
  useEffect(() => {
    if (opened) setName(given);
  }, [opened, given]);
  const submit = () => {
    onName(name.trim());
    onClose();
  };
  return (
    <Modal opened={opened} onClose={onClose} title={title}>
      <Form onSend={submit}>
        <Stack gap="sm">
          <TextInput data-autofocus label={label} description={hint} maxLength={most} value={name} onChange={(event) => setName(event.currentTarget.value)} />
          <Group gap="xs">
            {known.map((one) => <Small key={one} variant="default" label={one} onClick={() => setName(one)} />)}
          </Group>
          <Group justify="flex-end"><Button type="submit" disabled={!name.trim()}>{t.ok}</Button></Group>
        </Stack>
      </Form>
    </Modal>
  );
}

/** A text in which commands stand between backticks. */
export function WithCode({ text }: { text: string }) {
  return text.split("`").map((part, index) => (index % 2 ? <Code key={index}>{part}</Code> : part));
}

interface FormProps {
  /** Gets what was written, by the names of the fields, and what empties them. */
  readonly onSend: (written: Readonly<Record<string, string>>, empty: () => void) => void;
  readonly children: ReactNode;
}

export function Form({ onSend, children }: FormProps) {
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = event.currentTarget;
    onSend(Object.fromEntries(new FormData(form)) as Record<string, string>, () => form.reset());
  };
  return <form onSubmit={submit}>{children}</form>;
}

export type Fact = readonly [name: string, value: ReactNode];

export function Facts({ facts, wide = false, look = style.facts }: { facts: readonly Fact[]; wide?: boolean; look?: string | undefined }) {
  return (
    <dl className={look} data-wide={wide || undefined}>
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

export function Entries({ label, children }: { label: string; children: ReactNode }) {
  return <ul className={style.list} aria-label={label}>{children}</ul>;
}

/** One of a list: its name, what there is to know of it, and what can be done with it. */
export function Entry({ name, badge, about, bad, children }: {
  name: ReactNode;
  badge?: ReactNode;
  about: readonly (string | null | undefined)[];
  bad?: string | null | undefined;
  children?: ReactNode;
}) {
  return (
    <li>
      <div className={style.grow}>
        <b dir="auto">{name}</b> {typeof badge === "string" ? <Badge color="gray">{badge}</Badge> : badge}
        <Note>{about.filter(Boolean).join(" · ")}</Note>
        {bad && <Text size="sm" c="var(--mantine-color-error)">{bad}</Text>}
      </div>
      {children && <div className={style.does}>{children}</div>}
    </li>
  );
}

interface SmallProps {
  readonly label: string;
  readonly variant?: "filled" | "default" | "subtle";
  /** It cannot be undone: one is asked once more. */
  readonly danger?: boolean;
  readonly onClick: () => void;
}

/** A small button, as they stand at the end of an entry. */
export function Small({ label, variant = "subtle", danger = false, onClick }: SmallProps) {
  const { t } = useWords();
  const [asking, ask] = useState(false);
  const press = () => {
    if (!danger || asking) onClick();
    ask(danger && !asking);
  };
  return (
    <Button
      size="compact-sm"
      variant={asking ? "filled" : variant}
      onClick={press}
      onBlur={() => ask(false)}
      {...(danger ? { color: "red" } : {})}
    >
      {asking ? t.really(label) : label}
    </Button>
  );
}

export interface Action {
  readonly label: string;
  readonly hint?: string;
  readonly icon?: ComponentType<{ size: number; "aria-hidden": boolean }>;
  readonly danger?: boolean;
  readonly run: () => void;
}

/** A button with three dots that opens a menu. */
export function Actions({ label, actions, width = 260 }: { label: string; actions: readonly Action[]; width?: number }) {
  return (
    <Menu position="bottom-end" width={width}>
      <Menu.Target>
        <ActionIcon variant="subtle" color="gray" size="lg" aria-label={label}><IconDots size={18} /></ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        {actions.map(({ label: said, hint, icon: Icon, danger, run }) => (
          <Menu.Item
            key={said}
            leftSection={Icon && <Icon size={16} aria-hidden />}
            onClick={run}
            {...(danger ? { color: "red" } : {})}
          >
            {said}
            {hint && <Text size="xs" c="dimmed">{hint}</Text>}
          </Menu.Item>
        ))}
      </Menu.Dropdown>
    </Menu>
  );
}

export function Shown({ label, secret }: { label: string; secret: string }) {
  const { t } = useWords();
  return (
    <Alert title={label} role="status">
      <Group wrap="nowrap">
        <code className={style.secret}>{secret}</code>
        <Button size="compact-sm" leftSection={<IconCopy size={15} aria-hidden />} onClick={() => void copy(secret, t)}>
          {t.copy}
        </Button>
      </Group>
    </Alert>
  );
}
