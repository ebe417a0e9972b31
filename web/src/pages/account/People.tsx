// The people of the farm: invite them by link, give them a new link, remove them.
import { Badge, Button, Group, Switch, Text, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";

import { address, api, data } from "../../api/client";
import { sessionQuery } from "../../api/queries";
import { useNow, useWords } from "../../words";
import style from "./Account.module.css";
import { failed, Section, Shown } from "./Section";

export function People() {
  const { t, ago } = useWords();
  const client = useQueryClient();
  const now = useNow(60);
  const [link, setLink] = useState<string | null>(null);
  const [admin, setAdmin] = useState(false);
  const { data: session } = useQuery(sessionQuery);
  const { data: found } = useQuery({ queryKey: ["people"], queryFn: () => data(api.GET("/app/people")) });
  const done = () => client.invalidateQueries({ queryKey: ["people"] });
  const made = (person: { link?: string | null }) => {
    setLink(`${address("")}#/sign-in/${person.link ?? ""}`);
    return done();
  };
  const invite = useMutation({
    mutationFn: (name: string) => data(api.POST("/app/people", { body: { name, scope: admin ? "admin" : "user" } })),
    onSuccess: made,
    onError: failed,
  });
  const renew = useMutation({
    mutationFn: (name: string) => data(api.POST("/app/people/{name}/link", { params: { path: { name } } })),
    onSuccess: made,
    onError: failed,
  });
  const remove = useMutation({
    mutationFn: (name: string) => data(api.DELETE("/app/people/{name}", { params: { path: { name } } })),
    onSuccess: done,
    onError: failed,
  });
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = event.currentTarget;
    invite.mutate(String(new FormData(form).get("name")), { onSuccess: () => form.reset() });
  };
  return (
    <Section title={t.account.people} hint={t.account.peopleHint}>
      <ul className={style.list}>
        {found?.people.map((one) => (
          <li key={one.name}>
            <div className={style.grow}>
              <b>{one.name}</b> {one.scope === "admin" && <Badge>{t.account.scopes.admin}</Badge>}
              <Text size="sm" c="dimmed">
                {one.signed_in_at ? ago(now - one.signed_in_at) : t.account.never}
              </Text>
            </div>
            <Button size="compact-sm" variant="subtle" onClick={() => renew.mutate(one.name)}>
              {t.account.newLink}
            </Button>
            {one.name !== session?.owner && (
              <Button size="compact-sm" variant="subtle" color="red" onClick={() => remove.mutate(one.name)}>
                {t.account.removePerson}
              </Button>
            )}
          </li>
        ))}
      </ul>
      {link !== null && <Shown label={t.account.inviteLink} secret={link} />}
      <form onSubmit={submit}>
        <Group align="end" gap="sm">
          <TextInput
            name="name"
            label={t.account.inviteName}
            required
            withAsterisk={false}
            pattern="[A-Za-z0-9][A-Za-z0-9._@\-]{0,63}"
            className={style.grow}
          />
          <Switch label={t.account.inviteAdmin} checked={admin} onChange={(event) => setAdmin(event.currentTarget.checked)} pb={8} />
          <Button type="submit" variant="default" loading={invite.isPending}>
            {t.account.invite}
          </Button>
        </Group>
      </form>
    </Section>
  );
}
