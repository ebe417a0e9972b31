// The people of the farm: invite them by link, give them a new link, remove them.
import { Button, Group, Switch, TextInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { useChange } from "../../api/change";
import { address, api, data } from "../../api/client";
import { sessionQuery } from "../../api/queries";
import { Entries, Entry, Form, Section, Shown, Small } from "../../shell/Parts";
import { useNow, useWords } from "../../words";

const KEYS = [["people"]];

export function People() {
  const { t, ago } = useWords();
  const now = useNow(60);
  const [link, setLink] = useState<string | null>(null);
  const [admin, setAdmin] = useState(false);
  const { data: session } = useQuery(sessionQuery);
  const { data: found } = useQuery({ queryKey: ["people"], queryFn: () => data(api.GET("/app/people")) });
  const made = (person: { link?: string | null }) => setLink(`${address("")}#/sign-in/${person.link ?? ""}`);
  const invite = useChange((name: string) => data(api.POST("/app/people", { body: { name, scope: admin ? "admin" : "user" } })), KEYS, made);
  const renew = useChange((name: string) => data(api.POST("/app/people/{name}/link", { params: { path: { name } } })), KEYS, made);
  const remove = useChange((name: string) => data(api.DELETE("/app/people/{name}", { params: { path: { name } } })), KEYS);
  return (
    <Section title={t.settings.parts.people} hint={t.settings.peopleHint}>
      <Entries label={t.settings.parts.people}>
        {found?.people.map((one) => (
          <Entry
            key={one.name}
            name={one.name}
            badge={one.scope === "admin" ? t.settings.scopes.admin : undefined}
            about={[one.signed_in_at ? t.settings.signedIn(ago(now - one.signed_in_at)) : t.settings.never]}
          >
            <Small label={t.settings.newLink} onClick={() => renew.mutate(one.name)} />
            {one.name !== session?.owner && <Small danger label={t.settings.remove} onClick={() => remove.mutate(one.name)} />}
          </Entry>
        ))}
      </Entries>
      {link !== null && <Shown label={t.settings.inviteLink} secret={link} />}
      <Form onSend={({ name = "" }, empty) => invite.mutate(name, { onSuccess: empty })}>
        <Group align="end" gap="sm">
          <TextInput
            name="name"
            label={t.signIn.name}
            description={t.settings.inviteNameHint}
            title={t.settings.inviteNameHint}
            required
            withAsterisk={false}
            pattern="[A-Za-z0-9][A-Za-z0-9._@\-]{0,63}"
            flex="1 1 180px"
          />
          <Switch label={t.settings.inviteAdmin} checked={admin} onChange={(event) => setAdmin(event.currentTarget.checked)} pb={8} />
          <Button type="submit" variant="default" loading={invite.isPending}>{t.settings.invite}</Button>
        </Group>
      </Form>
    </Section>
  );
}
