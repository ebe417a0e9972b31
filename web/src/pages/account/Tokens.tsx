// Access tokens for programs and workers: make, list, revoke.
import { Badge, Button, Group, Select, Text, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";

import { api, data } from "../../api/client";
import type { NewToken } from "../../api/schema";
import { useNow, useWords } from "../../words";
import style from "./Account.module.css";
import { failed, Section, Shown } from "./Section";

export function Tokens({ admin }: { admin: boolean }) {
  const { t, ago } = useWords();
  const client = useQueryClient();
  const now = useNow(60);
  const [scope, setScope] = useState<NewToken["scope"]>("user");
  const [secret, setSecret] = useState<string | null>(null);
  const { data: found } = useQuery({ queryKey: ["tokens"], queryFn: () => data(api.GET("/api/tokens")) });
  const done = () => client.invalidateQueries({ queryKey: ["tokens"] });
  const make = useMutation({
    mutationFn: (name: string) => data(api.POST("/api/tokens", { body: { name, scope } })),
    onSuccess: (made) => {
      setSecret(made.token ?? null);
      return done();
    },
    onError: failed,
  });
  const revoke = useMutation({
    mutationFn: (id: string) => data(api.DELETE("/api/tokens/{token_id}", { params: { path: { token_id: id } } })),
    onSuccess: done,
    onError: failed,
  });
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = event.currentTarget;
    make.mutate(String(new FormData(form).get("name")), { onSuccess: () => form.reset() });
  };
  return (
    <Section title={t.account.tokens} hint={t.account.tokensHint}>
      <ul className={style.list}>
        {found?.tokens.map((one) => (
          <li key={one.id}>
            <div className={style.grow}>
              <b>{one.name}</b> <Badge color="gray">{t.account.scopes[one.scope]}</Badge>
              <Text size="sm" c="dimmed">
                {one.owner} · {t.account.made(ago(now - one.created_at))} ·{" "}
                {one.last_used_at ? t.account.used(ago(now - one.last_used_at)) : t.account.unused}
              </Text>
            </div>
            <Button size="compact-sm" variant="subtle" color="red" onClick={() => revoke.mutate(one.id)}>
              {t.account.revoke}
            </Button>
          </li>
        ))}
      </ul>
      {secret !== null && <Shown label={t.account.secret} secret={secret} />}
      <form onSubmit={submit}>
        <Group align="end" gap="sm">
          <TextInput name="name" label={t.account.tokenName} required withAsterisk={false} maxLength={255} className={style.grow} />
          {admin && (
            <Select
              label={t.account.tokenScope}
              value={scope}
              allowDeselect={false}
              onChange={(value) => setScope((value ?? "user") as NewToken["scope"])}
              data={(["user", "worker", "admin"] as const).map((value) => ({ value, label: t.account.scopes[value] }))}
              w={150}
            />
          )}
          <Button type="submit" variant="default" loading={make.isPending}>
            {t.account.makeToken}
          </Button>
        </Group>
      </form>
    </Section>
  );
}
