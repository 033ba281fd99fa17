"""Names as torch's profiler gives them: RECORDED on one H200 (torch 2.11) and on a CPU (torch 2.13), KNOWN from elsewhere."""

import pytest

from qcompile.profiler.kernels import COMPILED, NAMES, OTHER, PACKAGE_MARK, group_kernels, group_of

RECORDED = {
    "matmul": (
        "void cutlass::Kernel2<cutlass_80_wmma_tensorop_i161616gemm_s8_forwardCompat_128x128_32x2_nn_align4>",
        "void cutlass::Kernel2<cutlass_80_tensorop_i16832gemm_s8_64x64_128x6_tn_align16>",
        "nvjet_sm90_tst_8x64_64x16_4x1_v_bz_bias_TNN",
        "aten::addmm",
        "aten::linear",
        "aten::_int_mm",
        "aoti_torch_cpu__int_mm_out",
        "aoti_torch_cpu_addmm_out",
    ),
    "attention": (
        "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x64_4x1x1_cga1x1x1_kernel0_0",
        "aten::_scaled_dot_product_flash_attention_for_cpu",
        "aoti_torch_cpu__scaled_dot_product_flash_attention_for_cpu",
    ),
    "quantization": (
        "torchao::quantize_affine",
        "torchao::choose_qparams_affine",
        "triton_red_fused_amax_amin_cat_gelu_permute_view_5",
        "triton_per_fused_amax_amin_cat_div_gelu_maximum_minimum_neg_permute_view_zeros_like_6",
        "triton_poi_fused__to_copy_add_cat_clamp_gelu_mul_permute_reciprocal_view_7",
        "triton_per_fused__to_copy_add_amax_amin_clamp_div_maximum_minimum_mul_native_layer_norm_neg_reciprocal_split_unsqueeze_zeros_like_3",
        "graph_1_cpp_fused__to_copy_add_clamp_div_gelu_maximum_minimum_mul_neg_sub_view_zeros_like_2",
        "graph_0_cpp_fused__scaled_dot_product_flash_attention_for_cpu__to_copy_add_cat_clamp_div_maximum_mean_minimum_mul_neg_permute_3",
    ),
    "normalization": (
        "void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<c10::BFloat16, float, true>(int, float, c10::BFloat16 const*)",
        "triton_poi_fused__fused_rms_norm__scaled_dot_product_cudnn_attention__to_copy_add_clamp_expand_mul_neg_permute_split_stack_unbind_unsqueeze_view_3",
        "triton_per_fused__fused_rms_norm__to_copy_add_clamp_expand_mul_split_view_5",
        "aten::native_layer_norm",
        "aten::rms_norm",
        "aten::_fused_rms_norm",
    ),
    "copies": (
        "Memcpy DtoH (Device -> Pinned)",
        "Memset (Device)",
        "void at::native::unrolled_elementwise_kernel<at::native::direct_copy_kernel_cuda(at::TensorIteratorBase&)::{lambda()#3}>",
        "void at::native::vectorized_elementwise_kernel<8, at::native::bfloat16_copy_kernel_cuda(at::TensorIteratorBase&)>",
        "void at::native::(anonymous namespace)::CatArrayBatchedCopy_contig<at::native::(anonymous namespace)::OpaqueType<1u>, unsigned int>",
        "aten::copy_",
        "aten::_to_copy",
        "aten::cat",
        "aten::clone",
    ),
    OTHER: (
        "void at::native::vectorized_elementwise_kernel<8, at::native::GeluCUDAKernelImpl(at::TensorIteratorBase&, at::native::GeluType)>",
        "void at::native::elementwise_kernel<128, 4, at::native::gpu_kernel_impl<at::native::CUDAFunctor_add<float> >(at::TensorIteratorBase&)>",
        "triton_poi_fused_silu_0",
        "triton_poi_fused__to_copy_add_cat_clamp_expand_mul_split_view_4",
        "graph_1_cpp_fused_cat_silu_sum_t_0",
        "aten::gelu",
        "aten::mul",
        "aten::empty_strided",
    ),
    COMPILED: (f"{PACKAGE_MARK}FluxTransformerBlock",),
}

KNOWN = {
    "matmul": (
        "nvjet_tst_128x256_64x4_2x1_v_bz_coopB_TNT",
        "void cutlass::device_kernel<cutlass::gemm::kernel::GemmUniversal<cute::tuple<int, int, int, int>>>(T1::Params)",
        "cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_256x128_32x3_tn_align8",
        "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_execute_segment_k_off_kernel__5x_cublas",
        "void cublasLt::splitKreduce_kernel<32, 16, int, float, __nv_bfloat16, float, true>(cublasLt::cublasSplitKParams)",
        "std::enable_if<!T7, void>::type internal::gemvx::kernel<int, int, __nv_bfloat16, float>(cublasGemvParamsEx)",
        "triton_tem_fused__int_mm_mul_7",
        "triton_mm",
        "aten::mm",
        "aten::bmm",
        "aten::_scaled_mm",
    ),
    "attention": (
        "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_3_64x128x128_4x1x1_kernel0_0",
        "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 64, 4>>(pytorch_flash::Flash_fwd_params)",
        "fmha_cutlassF_bf16_aligned_64x128_rf_sm80(PyTorchMemEffAttention::AttentionKernel<cutlass::bfloat16_t>::Params)",
        "triton_tem_fused_flex_attention_0",
    ),
    "quantization": (
        "triton_red_fused__to_copy_abs_amax_clamp_div_gelu_mul_3",
        "triton_poi_fused__to_copy_clamp_div_mul_round_4",
    ),
    "normalization": (
        "void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<c10::BFloat16, float>(int, float, c10::BFloat16 const*)",
        "void at::native::(anonymous namespace)::RowwiseMomentsCUDAKernel<float>(long, float, float const*, float*, float*)",
        "triton_red_fused_add_mul_native_layer_norm_1",
        "triton_per_fused__to_copy_mean_mul_pow_rsqrt_2",
        "triton_per_fused__scaled_dot_product_cudnn_attention__to_copy_add_clamp_expand_mean_mul_permute_pow_split_view_2",
        "aten::native_group_norm",
    ),
    "convolution": (
        "aten::mkldnn_convolution",
        "sm80_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x128x32_stage4_warpsize2x2x1_g1",
    ),
    "copies": (
        "void at::native::elementwise_kernel<128, 4, at::native::direct_copy_kernel_cuda(at::TensorIteratorBase&)>(int)",
        "void at::native::(anonymous namespace)::CatArrayBatchedCopy_contig<at::native::(anonymous namespace)::OpaqueType<2u>>",
        "triton_poi_fused_cat_5",
        "triton_poi_fused__to_copy_transpose_view_12",
    ),
    OTHER: (
        "triton_poi_fused_gelu_mul_3",
        "triton_poi_fused_addmm_silu_0",
        "void at::native::vectorized_elementwise_kernel<4, at::native::GeluCUDAKernelImpl(at::TensorIteratorBase&)>(int)",
        "aten::add",
        "aten::addcmul",
    ),
}


@pytest.mark.parametrize(
    ("name", "group"),
    [(name, group) for table in (RECORDED, KNOWN) for group, names in table.items() for name in names],
    ids=lambda text: text[:60],
)
def test_names(name: str, group: str) -> None:
    assert group_of(name) == group


def test_every_group_is_tried() -> None:
    assert RECORDED.keys() | KNOWN.keys() == set(NAMES)


def test_adding_up() -> None:
    groups = group_kernels(
        [("b", "copies", 1.0), ("a", "matmul", 2.0), ("a", "matmul", 3.0), ("c", "matmul", 0.5), ("d", "matmul", 0.25)],
        num_costliest=2,
    )
    assert [(group.name, group.count, group.ms) for group in groups] == [("matmul", 4, 5.75), ("copies", 1, 1.0)]
    assert [(kernel.name, kernel.count, kernel.ms) for kernel in groups[0].costliest] == [("a", 2, 5.0), ("c", 1, 0.5)]
