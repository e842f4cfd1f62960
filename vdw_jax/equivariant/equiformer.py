"""EquiformerV2 on dense neighbour lists (Liao et al., arXiv:2306.12059)."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vdw_jax.equivariant.activations import GridFeedForward
from vdw_jax.equivariant.attention import GraphAttention
from vdw_jax.equivariant.config import EquiformerConfig
from vdw_jax.equivariant.edges import EdgeInputs
from vdw_jax.equivariant.layers import (
    Embedding,
    EquivariantLayerNorm,
    RadialFunction,
    add_degree,
    dense,
    drop_path,
    gaussian_basis,
    polynomial_envelope,
    split_each,
)
from vdw_jax.equivariant.messages import collect, find_ends
from vdw_jax.equivariant.rotation import edge_frames
from vdw_jax.safe_ops import safe_norm


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    config: EquiformerConfig

    @nn.compact
    def __call__(
        self, nodes: jax.Array, edges: EdgeInputs, context: jax.Array | None, dropout_keys: jax.Array | None
    ) -> tuple[jax.Array, None]:
        """l-major [B, N, (lmax+1)^2, C] -> same; the None is what `nn.scan` carries out."""
        config = self.config
        keys: Any = (None, None, None) if dropout_keys is None else split_each(dropout_keys, 3)
        if context is not None:
            shift = dense(config.channels, config.dtype, name="context")(context)
            nodes = add_degree(nodes, shift[..., None, :], 0)
        hidden = EquivariantLayerNorm(config.lmax, name="norm_attention")(nodes)
        hidden = GraphAttention(config, config.channels, name="attention")(hidden, edges, keys[0])
        nodes = nodes + drop_path(hidden, config.drop_path, keys[1])
        hidden = EquivariantLayerNorm(config.lmax, name="norm_ffn")(nodes)
        hidden = feed_forward(config, config.channels, name="ffn")(hidden)
        return nodes + drop_path(hidden, config.drop_path, keys[2]), None


def feed_forward(config: EquiformerConfig, features: int, name: str) -> GridFeedForward:
    """The configured grid feed-forward network."""
    return GridFeedForward(
        hidden=config.ffn_channels,
        features=features,
        lmax=config.lmax,
        grid=config.node_grid,
        dtype=config.dtype,
        product=config.ffn_activation == "product",
        name=name,
    )


class EquiformerV2(nn.Module):
    """Node features that turn with the graph, from species, edge vectors and invariant context.

    Works on [B, N] nodes with K neighbour slots each; knows nothing of lattices. The layers run under
    `nn.scan`, so compile time does not grow with their number.
    """

    config: EquiformerConfig
    num_species: int

    @nn.compact
    def __call__(
        self,
        species: jax.Array,
        index: jax.Array | None,
        vector: jax.Array,
        mask: jax.Array,
        ratio: jax.Array,
        context: jax.Array | None = None,
        direction: jax.Array | None = None,
        dropout_keys: jax.Array | None = None,
        edge_context: jax.Array | None = None,
    ) -> tuple[jax.Array, EdgeInputs]:
        """Runs the network.

        Args:
          species: [B, N] int32 in [0, num_species).
          index, vector, mask: neighbour lists, [B, N, K] and [B, N, K, 3] (Angstrom); an index of None stands for all
            pairs of nodes, as in `gather_neighbours`.
          ratio: [B, N, K], 1 where the envelope of an edge vanishes.
          context: [B, N, D] invariants given to every node, or None.
          direction: [B, N, V, 3] vectors given to every node, or None.
          dropout_keys: [B], a key for each graph's dropout and drop path, so that they do not depend on how the batch
            is split over devices; None for neither.
          edge_context: [B, N, K, D], invariants given to every edge, or None.
        Returns:
          l-major features [B, N, (lmax+1)^2, channels], and the edges for an output head to use.
        """
        config, dtype = self.config, self.config.dtype
        edges = self._edge_inputs(species, index, vector, mask, ratio)
        if edge_context is not None:
            invariants = jnp.concatenate([edges.invariants, edge_context.astype(dtype)], axis=-1)
            edges = dataclasses.replace(edges, invariants=invariants)

        scalars = Embedding(self.num_species, config.channels, dtype, name="species")(species)
        first = edges
        if context is not None:
            context = context.astype(dtype)
            scalars = dense(config.channels, dtype, name="join")(jnp.concatenate([scalars, context], -1))
            of_context = dense(config.edge_channels, dtype, name="edge_context", use_bias=False)(context)
            target: Any = edges.target
            first = dataclasses.replace(edges, target=jnp.concatenate([target, of_context], axis=-1))
        nodes = self._edge_degree(first)
        nodes = add_degree(nodes, scalars[..., None, :], 0)
        if direction is not None:
            weights = self.param(
                "direction", nn.initializers.lecun_normal(), (direction.shape[-2], config.channels)
            )
            vectors = jnp.einsum("bnvx,vc->bnxc", direction, weights, precision="highest")
            nodes = add_degree(nodes, vectors.astype(dtype), 1)

        block = nn.remat(TransformerBlock, prevent_cse=False) if config.remat else TransformerBlock
        layers = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(nn.broadcast, nn.broadcast, 0),
            length=config.num_layers,
            unroll=config.num_layers if config.unroll else 1,
        )
        layer_context = context if config.condition_every_layer else None
        layer_keys = None if dropout_keys is None else split_each(dropout_keys, config.num_layers)
        nodes, _ = layers(config, name="layers")(nodes, edges, layer_context, layer_keys)
        return EquivariantLayerNorm(config.lmax, name="norm")(nodes), edges

    def _edge_inputs(self, species, index, vector, mask, ratio) -> EdgeInputs:
        config, dtype = self.config, self.config.dtype
        length = safe_norm(vector)
        if config.adaptive_envelope:
            envelope = jnp.where(mask, polynomial_envelope(ratio), 0.0)
        else:
            envelope = mask.astype(ratio.dtype)
        basis = gaussian_basis(length, config.cutoff_angstrom, config.num_basis).astype(dtype)
        source = Embedding(self.num_species, config.edge_channels, dtype, name="source")(species)
        target = Embedding(self.num_species, config.edge_channels, dtype, name="target")(species)
        frames = edge_frames(vector, config.order)
        ends = find_ends(index, mask.shape[1], mask.shape[2], config.kernels)
        return EdgeInputs(index, mask, basis, envelope, frames, source, target, ends)

    def _edge_degree(self, edges: EdgeInputs) -> jax.Array:
        """Sum over neighbours of radial functions on the m = 0 coefficients, turned back (paper, Eq. 3)."""
        config, degrees = self.config, self.config.order.num_degrees(0)
        features = degrees * config.channels
        radial = RadialFunction(config.radial_hidden, features, config.dtype, name="edge_degree")(edges)
        radial = radial.reshape(*radial.shape[:-1], degrees, config.channels)
        weights = edges.envelope[..., None] / config.average_degree
        return collect(edges.frames.zeroth(), [radial], weights, config.kernels)


class ScalarHead(nn.Module):
    """Invariant outputs of every node, by a feed-forward network."""

    config: EquiformerConfig
    features: int

    @nn.compact
    def __call__(self, nodes: jax.Array) -> jax.Array:
        """[B, N, (lmax+1)^2, C] -> [B, N, features], float32."""
        return feed_forward(self.config, self.features, name="ffn")(nodes)[..., 0, :].astype(jnp.float32)


class VectorHead(nn.Module):
    """Vector outputs of every node, by an attention block."""

    config: EquiformerConfig
    features: int = 1

    @nn.compact
    def __call__(self, nodes: jax.Array, edges: EdgeInputs) -> jax.Array:
        """[B, N, (lmax+1)^2, C] -> [B, N, features, 3], float32."""
        out = GraphAttention(self.config, self.features, name="attention")(nodes, edges)
        return jnp.swapaxes(out[..., 1:4, :], -1, -2).astype(jnp.float32)
