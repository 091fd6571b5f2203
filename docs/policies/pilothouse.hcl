# The rights that Pilothouse needs in Vault, and no others.
#
# Written for the defaults VAULT_MOUNT_POINT=secret, VAULT_PREFIX=pilothouse and
# VAULT_TRANSIT_MOUNT=transit; change the paths where yours differ.
#
#   vault policy write pilothouse docs/policies/pilothouse.hcl
#   vault write auth/approle/role/pilothouse \
#       token_policies=pilothouse token_no_default_policy=true token_ttl=1h
#
# No path has `delete`: Pilothouse writes a deletion as a new version, because deleting versions or
# metadata in Vault would delete the history.

# Documents; every write uses check-and-set.
path "secret/data/pilothouse/*" {
  capabilities = ["create", "read", "update"]
}

# `cas_required` and `max_versions` of a new document; the list of documents; their newest version.
path "secret/metadata/pilothouse/*" {
  capabilities = ["create", "read", "update", "list"]
}

# `delete_version_after` of the mount, to warn at start if Vault deletes versions by itself.
path "secret/config" {
  capabilities = ["read"]
}

# Secrets, with one key for each environment: pilothouse-staging, pilothouse-production, ...
# `create` allows Vault to create the key for the first secret of an environment.
path "transit/encrypt/pilothouse-*" {
  capabilities = ["create", "update"]
}

path "transit/decrypt/pilothouse-*" {
  capabilities = ["update"]
}

# Fingerprints, which show that a secret changed without showing its value.
path "transit/hmac/pilothouse-*" {
  capabilities = ["update"]
}

# The validity and lifetime of the service's own token.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}
