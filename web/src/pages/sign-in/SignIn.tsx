// Signing in: by name and password, or by a link that works once.
import { Alert, Button, Card, Center, PasswordInput, Stack, Text, TextInput, Title } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { type FormEvent, type ReactNode, useEffect, useRef, useState } from "react";

import { sessionQuery } from "../../api/queries";
import icon from "../../icon.svg";
import { WithCode } from "../../shell/Parts";
import { Problem } from "../../shell/Failed";
import { useWords } from "../../words";
import { signInWith } from "./session";

export function SignIn() {
  const { t } = useWords();
  const { to } = useSearch({ from: "/sign-in" });
  const client = useQueryClient();
  const navigate = useNavigate();
  const [refused, setRefused] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    setBusy(true);
    try {
      await signInWith(client, { name: String(form.get("name")), password: String(form.get("password")) });
      await navigate({ href: to ?? "/" });
    } catch (error) {
      setRefused(error);
    } finally {
      setBusy(false);
    }
  }

  return (
    <Frame>
      <form onSubmit={(event) => void submit(event)}>
        <Stack>
          <Text c="dimmed" size="sm">{t.signIn.hint}</Text>
          {refused !== null && <Problem error={refused} title={null} />}
          <TextInput name="name" label={t.signIn.name} autoComplete="username" required withAsterisk={false} autoFocus />
          <PasswordInput
            name="password"
            label={t.signIn.password}
            autoComplete="current-password"
            required
            withAsterisk={false}
          />
          <Button type="submit" loading={busy}>{t.signIn.title}</Button>
        </Stack>
      </form>
    </Frame>
  );
}

export function SignInByLink() {
  const { t } = useWords();
  const { secret } = useParams({ from: "/sign-in/$secret" });
  const client = useQueryClient();
  const navigate = useNavigate();
  const [refused, setRefused] = useState(false);
  const begun = useRef(false); // the link works once, and development draws everything twice

  useEffect(() => {
    if (begun.current) return;
    begun.current = true;
    const enter = () => navigate({ to: "/", replace: true });
    signInWith(client, { link: secret }).then(enter, async () => {
      const session = await client.fetchQuery(sessionQuery).catch(() => null);
      return session?.owner ? enter() : setRefused(true); // who is in already may open the link once more
    });
  }, [client, navigate, secret]);

  return (
    <Frame>
      {refused ? (
        <>
          <Alert color="red" role="alert"><WithCode text={t.signIn.linkUsed} /></Alert>
          <Button component={Link} to="/sign-in" variant="default">{t.signIn.byPassword}</Button>
        </>
      ) : <Text role="status">{t.signIn.opening}</Text>}
    </Frame>
  );
}

function Frame({ children }: { children: ReactNode }) {
  const { t } = useWords();
  return (
    <Center component="main" mih="100dvh" p="md">
      <Card withBorder padding="xl" w="100%" maw={400} shadow="sm">
        <Stack>
          <img src={icon} alt="" width={44} height={44} />
          <Title order={1}>{`${t.app}: ${t.signIn.title}`}</Title>
          {children}
        </Stack>
      </Card>
    </Center>
  );
}
