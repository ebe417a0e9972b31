// The account: how the app looks, password, sessions; the people of the farm and its access tokens.
import { Alert, Button, Container, Group, PasswordInput, SegmentedControl, Select, SimpleGrid, Stack, Text, Title, useMantineColorScheme } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import type { FormEvent } from "react";

import { api, data } from "../../api/client";
import { serverQuery, sessionQuery } from "../../api/queries";
import type { Session } from "../../api/schema";
import { type Language, languages } from "../../texts";
import { bytes, useWords } from "../../words";
import { signOut } from "../sign-in/session";
import { Glossary } from "./Glossary";
import { People } from "./People";
import { failed, Section } from "./Section";
import { Tokens } from "./Tokens";

export function Account() {
  const { t } = useWords();
  const { data: session } = useQuery(sessionQuery);
  if (!session?.owner || !session.scope) return null;
  return (
    <Container size="sm" py="lg">
      <Stack gap="lg">
        <div>
          <Title order={1}>{t.account.title}</Title>
          <Text c="dimmed">{t.account.you(session.owner, t.account.scopes[session.scope])}</Text>
        </div>
        <Appearance />
        <Glossary />
        {session.has_account && <Password session={session} />}
        <Sessions />
        {session.scope === "admin" && <People />}
        <Tokens admin={session.scope === "admin"} />
        <About version={session.version} admin={session.scope === "admin"} />
      </Stack>
    </Container>
  );
}

function About({ version, admin }: { version: string; admin: boolean }) {
  const { t, number } = useWords();
  const { data: server } = useQuery({ ...serverQuery, enabled: admin });
  const facts = server
    ? [
        t.account.upload(bytes(server.max_upload_bytes)),
        t.account.unfinished(number(server.max_unfinished ?? 0)),
        server.retention_days == null ? t.account.keptForGood : t.account.kept(number(server.retention_days)),
        t.account.trash(number(server.trash_hours ?? 0)),
      ]
    : [];
  return (
    <Section title={t.account.about}>
      <Text size="sm">{t.account.version(version)}</Text>
      <Text size="sm">{t.account.licence}</Text>
      {facts.map((fact) => (
        <Text key={fact} size="sm">
          {fact}
        </Text>
      ))}
    </Section>
  );
}

function Appearance() {
  const { t, language, choose } = useWords();
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  return (
    <Section title={t.account.appearance}>
      <SimpleGrid cols={{ base: 1, sm: 2 }}>
        <Select
          label={t.account.tongue}
          value={language}
          allowDeselect={false}
          onChange={(value) => value && choose(value as Language)}
          data={(Object.keys(languages) as Language[]).map((value) => ({ value, label: languages[value].language }))}
        />
        <Stack gap={4}>
          <Text size="sm" fw={600}>
            {t.theme.label}
          </Text>
          <SegmentedControl
            aria-label={t.theme.label}
            value={colorScheme}
            onChange={setColorScheme}
            data={(["auto", "light", "dark"] as const).map((value) => ({ value, label: t.theme[value] }))}
          />
        </Stack>
      </SimpleGrid>
    </Section>
  );
}

function Password({ session }: { session: Session }) {
  const { t } = useWords();
  const client = useQueryClient();
  const change = useMutation({
    mutationFn: (body: { password: string; current: string | null }) => data(api.PUT("/app/password", { body })),
    onSuccess: () => {
      notifications.show({ message: t.account.passwordSet });
      return client.invalidateQueries({ queryKey: ["session"] });
    },
  });
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = event.currentTarget;
    const given = new FormData(form);
    const current = given.get("current");
    change.mutate(
      { password: String(given.get("password")), current: current === null ? null : String(current) },
      { onSuccess: () => form.reset() },
    );
  };
  return (
    <Section title={t.account.password} {...(session.has_password ? {} : { hint: t.account.noPassword })}>
      <form onSubmit={submit}>
        <Stack gap="sm">
          <input type="text" name="username" autoComplete="username" value={session.owner ?? ""} readOnly hidden />
          {change.error && (
            <Alert color="red" role="alert">
              {change.error.message}
            </Alert>
          )}
          {session.has_password && (
            <PasswordInput name="current" label={t.account.current} autoComplete="current-password" required withAsterisk={false} />
          )}
          <PasswordInput
            name="password"
            label={t.account.fresh}
            description={t.account.freshHint}
            autoComplete="new-password"
            minLength={10}
            maxLength={256}
            required
            withAsterisk={false}
          />
          <Group>
            <Button type="submit" loading={change.isPending}>
              {t.account.set}
            </Button>
          </Group>
        </Stack>
      </form>
    </Section>
  );
}

function Sessions() {
  const { t } = useWords();
  const client = useQueryClient();
  const navigate = useNavigate();
  const out = async () => {
    await signOut(client, true);
    await navigate({ to: "/sign-in" });
  };
  return (
    <Section title={t.account.sessions} hint={t.account.everywhereHint}>
      <Group>
        <Button variant="default" onClick={() => void out().catch(failed)}>
          {t.account.everywhere}
        </Button>
      </Group>
    </Section>
  );
}
