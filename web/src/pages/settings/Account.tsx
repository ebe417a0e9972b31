// The own account: how the app looks, password, sessions.
import { Button, Group, PasswordInput, SegmentedControl, Select, SimpleGrid, Stack, Text, useMantineColorScheme } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";

import { failed } from "../../api/change";
import { api, data } from "../../api/client";
import type { Session } from "../../api/schema";
import { Form, Section } from "../../shell/Parts";
import { type Language, languages } from "../../texts";
import { Problem } from "../../shell/Failed";
import { useWords } from "../../words";
import { signOut } from "../sign-in/session";

export function Appearance() {
  const { t, language, choose } = useWords();
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  return (
    <Section title={t.settings.appearance}>
      <SimpleGrid cols={{ base: 1, sm: 2 }}>
        <Select
          label={t.settings.tongue}
          value={language}
          allowDeselect={false}
          onChange={(value) => value && choose(value as Language)}
          data={(Object.keys(languages) as Language[]).map((value) => ({ value, label: languages[value].language }))}
        />
        <Stack gap={4}>
          <Text size="sm" fw={600}>{t.theme.label}</Text>
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

export function Password({ session }: { session: Session }) {
  const { t } = useWords();
  const client = useQueryClient();
  const change = useMutation({
    mutationFn: (body: { password: string; current: string | null }) => data(api.PUT("/app/password", { body })),
    onSuccess: () => {
      notifications.show({ message: t.settings.passwordSet });
      return client.invalidateQueries({ queryKey: ["session"] });
    },
  });
  return (
    <Section title={t.signIn.password} {...(session.has_password ? {} : { hint: t.settings.noPassword })}>
      <Form
        onSend={({ password = "", current = null }, empty) => change.mutate({ password, current }, { onSuccess: empty })}
      >
        <Stack gap="sm">
          <input type="text" name="username" autoComplete="username" value={session.owner ?? ""} readOnly hidden />
          {change.error && <Problem error={change.error} title={null} />}
          {session.has_password && (
            <PasswordInput name="current" label={t.settings.current} autoComplete="current-password" required withAsterisk={false} />
          )}
          <PasswordInput
            name="password"
            label={t.settings.fresh}
            description={t.settings.freshHint}
            autoComplete="new-password"
            minLength={10}
            maxLength={256}
            required
            withAsterisk={false}
          />
          <Group><Button type="submit" loading={change.isPending}>{t.settings.set}</Button></Group>
        </Stack>
      </Form>
    </Section>
  );
}

export function Sessions() {
  const { t } = useWords();
  const client = useQueryClient();
  const navigate = useNavigate();
  const out = async () => {
    await signOut(client, true);
    await navigate({ to: "/sign-in" });
  };
  return (
    <Section title={t.settings.sessions} hint={t.settings.everywhereHint}>
      <Group><Button variant="default" onClick={() => void out().catch(failed)}>{t.settings.everywhere}</Button></Group>
    </Section>
  );
}
