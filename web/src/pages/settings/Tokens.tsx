// Access tokens for programs and workers: make, list, revoke.
import { Button, Group, Select, TextInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { useChange } from "../../api/change";
import { api, data } from "../../api/client";
import type { NewToken } from "../../api/schema";
import { Entries, Entry, Form, Section, Shown, Small } from "../../shell/Parts";
import { useNow, useWords } from "../../words";

const KEYS = [["tokens"]];

export function Tokens({ admin }: { admin: boolean }) {
  const { t, ago } = useWords();
  const now = useNow(60);
  const [scope, setScope] = useState<NewToken["scope"]>("user");
  const { data: found } = useQuery({ queryKey: ["tokens"], queryFn: () => data(api.GET("/api/tokens")) });
  const make = useChange((name: string) => data(api.POST("/api/tokens", { body: { name, scope } })), KEYS);
  const revoke = useChange((id: string) => data(api.DELETE("/api/tokens/{token_id}", { params: { path: { token_id: id } } })), KEYS);
  return (
    <Section title={t.settings.tokens} hint={t.settings.tokensHint}>
      <Entries label={t.settings.tokens}>
        {found?.tokens.map((one) => (
          <Entry
            key={one.id}
            name={one.name}
            badge={t.settings.scopes[one.scope]}
            about={[
              one.owner,
              t.settings.made(ago(now - one.created_at)),
              one.last_used_at ? t.settings.used(ago(now - one.last_used_at)) : t.settings.unused,
            ]}
          >
            <Small danger label={t.settings.revoke} onClick={() => revoke.mutate(one.id)} />
          </Entry>
        ))}
      </Entries>
      {make.data?.token && <Shown label={t.settings.secret} secret={make.data.token} />}
      <Form onSend={({ name = "" }, empty) => make.mutate(name, { onSuccess: empty })}>
        <Group align="end" gap="sm">
          <TextInput name="name" label={t.settings.tokenName} required withAsterisk={false} maxLength={255} flex="1 1 180px" />
          {admin && (
            <Select
              label={t.settings.tokenScope}
              value={scope}
              allowDeselect={false}
              onChange={(value) => setScope((value ?? "user") as NewToken["scope"])}
              data={(["user", "worker", "admin"] as const).map((value) => ({ value, label: t.settings.scopes[value] }))}
              w={150}
            />
          )}
          <Button type="submit" variant="default" loading={make.isPending}>{t.settings.makeToken}</Button>
        </Group>
      </Form>
    </Section>
  );
}
