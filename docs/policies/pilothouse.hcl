# What Pilothouse needs of Vault, and nothing beyond.
#
# Written for the defaults VAULT_MOUNT_POINT=secret, VAULT_PREFIX=pilothouse and
# VAULT_TRANSIT_MOUNT=transit; change the paths where yours differ.
#
#   vault policy write pilothouse docs/policies/pilothouse.hcl
#   vault write auth/approle/role/pilothouse \
#       token_policies=pilothouse token_no_default_policy=true token_ttl=1h
#
# There is no `delete` anywhere: a deletion is written as a new version, because versions that
# Vault deletes, and metadata that it forgets, take the history with them.

# Documents, every write with compare-and-set.
path "secret/data/pilothouse/*" {
  capabilities = ["create", "read", "update"]
}

# `cas_required` and `max_versions` of a new document; which documents there are; their newest
# version.
path "secret/metadata/pilothouse/*" {
  capabilities = ["create", "read", "update", "list"]
}

# Secrets, under one key for each environment: pilothouse-staging, pilothouse-production, ...
# `create` lets Vault make the key when an environment seals its first secret.
path "transit/encrypt/pilothouse-*" {
  capabilities = ["create", "update"]
}

path "transit/decrypt/pilothouse-*" {
  capabilities = ["update"]
}

# Fingerprints, which show that a secret changed and not to what.
path "transit/hmac/pilothouse-*" {
  capabilities = ["update"]
}

# The token's own life: is it still good, and for how long.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}
